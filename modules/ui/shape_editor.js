// The shape editor: bodies on a floor, of which the server makes a depth map. It goes on where pose_editor.js ends.
//
// A shape is {kind, x, y, size}: where its foot stands, in 0..1 of the picture. Lower is nearer and looks larger.
const { horizon, far, shapes: built, sizes } = props.stage, board = find(".shapes");
const depth = () => root.dataset.kind === "depth";
const between = (value, [low, high]) => Math.min(high, Math.max(low, value));

// Half the width and the height of a shape of that size on the screen of the picture, in its pixels.
const extent = (thing) => {
  const near = far + ((1 - far) * (thing.y - horizon)) / (1 - horizon), short = Math.min(...state.size);
  return built[thing.kind].map((part) => part * thing.size * near * short);
};

const bodies = [];
const placeShapes = () => {
  const [width, height] = state.size;
  board.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (bodies.length !== state.shapes.length) {
    board.replaceChildren();
    bodies.splice(0, bodies.length, ...state.shapes.map((_, index) => [
      shape("rect", board, { tabindex: 0, role: "button", "data-thing": index }),
      shape("circle", board, { "data-thing": index, "data-size": "" }),
    ]));
  }
  state.shapes.forEach((thing, index) => {
    const [half, tall] = extent(thing), [body, grip] = bodies[index], x = thing.x * width, y = thing.y * height;
    body.setAttribute("aria-label", `${thing.kind} ${index + 1}`);
    const box = { x: x - half, y: y - tall, width: 2 * half, height: tall, rx: thing.kind === "ball" ? half : 2 };
    for (const [name, value] of Object.entries(box)) body.setAttribute(name, value);
    const knob = { cx: x + half, cy: y - tall / 2, r: 0.022 * Math.min(width, height) };
    for (const [name, value] of Object.entries(knob)) grip.setAttribute(name, value);
  });
};

board.addEventListener("pointerdown", (event) => {
  const { thing, size } = event.target.dataset;
  if (thing === undefined || event.button) return;
  event.preventDefault();
  bodies[thing][0].focus();
  state.thing = Number(thing);
  state.drag = { size: size !== undefined, from: spot(event), before: snapshot(), moved: false };
  board.setPointerCapture(event.pointerId);
});
board.addEventListener("pointermove", (event) => {
  const drag = state.drag;
  if (!drag) return;
  drag.moved = true;
  frame.classList.add("dirty");
  const now = spot(event), thing = state.shapes[state.thing], before = drag.before.shapes[state.thing];
  if (drag.size) {
    const reach = Math.abs(now[0] - before.x) * state.size[0];
    thing.size = between((before.size * reach) / extent(before)[0], sizes);
  } else {
    thing.x = within(before.x + now[0] - drag.from[0]);
    thing.y = between(before.y + now[1] - drag.from[1], [horizon, 1]);
  }
  place();
});
board.addEventListener("pointerup", letGo);
board.addEventListener("pointercancel", letGo);
board.addEventListener("keydown", (event) => {
  const { thing: index } = event.target.dataset;
  if (index === undefined) return;
  state.thing = Number(index);
  const way = ARROWS[event.key], step = event.shiftKey ? 0.05 : 0.01, thing = state.shapes[index];
  const grow = { "+": 1.1, "-": 1 / 1.1 }[event.key];
  if (way) change(() => {
    thing.x = within(thing.x + way[0] * step);
    thing.y = between(thing.y + way[1] * step, [horizon, 1]);
  });
  else if (grow) change(() => { thing.size = between(thing.size * grow, sizes); });
  else if (event.key === "Delete") find(".remove").click();
  else return;
  event.preventDefault();
});
for (const button of element.querySelectorAll(".thing")) {
  button.addEventListener("click", () => change(() => {
    const x = [0.5, 0.28, 0.72, 0.4, 0.6][state.shapes.length % 5];
    state.shapes = [...state.shapes, { kind: button.dataset.shape, x, y: 0.8, size: 0.22 }];
    state.thing = state.shapes.length - 1;
  }));
}

// Both editors are there now: show what the server last said, or else begin with one person.
watch("value", receive);
if (props.value && props.value.kind) receive();
else {
  state.people = copy([props.poses.standing]);
  state.shapes = [{ kind: "pillar", x: 0.35, y: 0.72, size: 0.24 }, { kind: "ball", x: 0.63, y: 0.86, size: 0.24 }];
  changed();
}
