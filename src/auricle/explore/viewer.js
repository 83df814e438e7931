// Shows one result: plays its sound, moves the play head over its picture, tells time and frame.
// `element` is the place of the viewer, `props.value` the result as JSON; see drawing.view.

const make = (tag, className) => {
  const node = document.createElement(tag);
  node.className = className;
  return node;
};

const show = () => {
  const old = element.querySelector(".stage");
  if (old) old.remove();
  if (!props.value) return;
  for (const close of document.querySelectorAll(".toast-close")) close.click();
  for (const text of element.querySelectorAll(".hint, .notice")) text.style.display = "none";
  const result = JSON.parse(props.value);

  const stage = make("div", "stage");
  const sound = make("audio", "sound");
  sound.controls = true;
  sound.src = result.sound;
  const readout = make("output", "readout");
  readout.textContent = "Point at the picture for time and frame; click to play from there.";
  const canvas = make("div", "canvas");
  const picture = make("img", "picture");
  picture.src = result.picture;
  picture.alt = result.title;
  picture.draggable = false;
  const head = make("div", "line head");
  const pointer = make("div", "line pointer");
  canvas.append(picture, head, pointer);
  stage.append(sound, readout, canvas);
  element.append(stage);

  const panels = result.panels;
  const { left, right } = panels[0];
  const top = Math.min(...panels.map((panel) => panel.top));
  const bottom = Math.max(...panels.map((panel) => panel.bottom));
  for (const line of [head, pointer]) {
    line.style.top = `${100 * top}%`;
    line.style.height = `${100 * (bottom - top)}%`;
  }

  // Times here are of the sound; those told are of the recording, which it may be a part of.
  const place = (line, seconds) => {
    const part = Math.min(Math.max(seconds / result.seconds, 0), 1);
    line.style.left = `${100 * (left + part * (right - left))}%`;
  };

  const tell = (seconds, panel) => {
    const moment = result.origin + seconds;
    let text = `${moment.toFixed(3)} s`;
    if (panel && panel.frames) {
      const { start, hop, count } = panel.frames;
      const frame = Math.floor((moment - start) / hop);
      const inside = frame >= 0 && frame < count;
      text += inside ? `, frame ${frame} of ${count}` : ", no frame";
    }
    readout.textContent = panel ? `${text}: ${panel.name}` : text;
  };

  const follow = () => {
    if (!stage.isConnected) return;
    place(head, sound.currentTime);
    if (!sound.paused) requestAnimationFrame(follow);
  };

  const secondsAt = (event) => {
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    if (x < left || x > right || y < top || y > bottom) return null;
    const panel = panels.find((one) => y >= one.top && y <= one.bottom);
    return { seconds: ((x - left) / (right - left)) * result.seconds, panel };
  };

  canvas.addEventListener("mousemove", (event) => {
    const found = secondsAt(event);
    pointer.style.display = found ? "block" : "none";
    if (!found) return;
    place(pointer, found.seconds);
    tell(found.seconds, found.panel);
  });
  canvas.addEventListener("mouseleave", () => { pointer.style.display = "none"; });
  canvas.addEventListener("click", (event) => {
    const found = secondsAt(event);
    if (!found) return;
    sound.currentTime = found.seconds;
    place(head, found.seconds);
    sound.play().catch((error) => {
      if (error.name !== "AbortError") throw error; // paused before it had begun
    });
  });
  sound.addEventListener("play", follow);
  sound.addEventListener("seeked", follow);
  place(head, 0);
};

// The recorder fails without a word where there is no microphone or it may not be used.
const warnOfMicrophone = (failure) => {
  if (!/microphone/i.test(String(failure))) return;
  const notice = element.querySelector(".notice");
  notice.textContent =
    "The browser gives no microphone: connect one and allow this page to use it, or drop a file.";
  notice.style.display = "block";
};
window.addEventListener("unhandledrejection", (event) => warnOfMicrophone(event.reason));
window.addEventListener("error", (event) => warnOfMicrophone(event.message));

show();
watch("value", show);
