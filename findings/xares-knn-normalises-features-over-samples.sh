#!/usr/bin/env bash
# xares==0.1.3 (torch==2.13.0): its k-NN, meant to go by cosine, gives a training vector another one
# as its nearest neighbour.
#
# `xares.trainer.KNN` turns the training vectors (N, D) into (D, N) and normalises along dimension 1:
# each feature over all samples, not each sample. Their lengths stay, so that the longest vectors are
# neighbours of everything: with log mel energies all test sounds get one answer.
#
# Seen: the nearest neighbour of (1, 0), of class 0, among itself and (10, 10), of class 1: class 1
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
pip=("$folder/env/bin/pip" --quiet --disable-pip-version-check install)
"${pip[@]}" torch==2.13.0 numpy loguru tqdm pytorch-ignite==0.5.3
"${pip[@]}" --no-deps xares==0.1.3

"$folder/env/bin/python" - << 'PYTHON'
import sys

import torch
from xares.trainer import KNN

vectors, classes = torch.tensor([[1.0, 0.0], [10.0, 10.0]]), torch.tensor([0, 1])
knn = KNN(vectors, classes, nb_knn=1, num_classes=2)
found = int(knn(vectors[:1]).argmax())
print("the nearest neighbour of (1, 0), of class 0, among itself and (10, 10), of class 1: class", found)
sys.exit(0 if found == 1 else 1)
PYTHON
