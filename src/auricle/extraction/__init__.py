"""From a corpus to a store of its representations: inputs, plan, engine, formats."""
