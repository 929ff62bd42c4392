// The pose editor: joints over the map that the server draws (see pose_editor.py). shape_editor.js goes on.
//
// A person is eighteen [x, y] in 0..1, or null where a joint is absent. Every text goes in through textContent.
const find = (selector) => element.querySelector(selector);
const { keypoints, limbs, colours, shade, stroke } = props.skeleton;
const root = find(".control-map"), frame = find(".map-frame"), canvas = find(".joints"), image = find(".map");
const state = { people: [], shapes: [], past: [], person: 0, thing: 0, drag: null, size: [1, 1] };

const copy = (people) => people.map((person) => person.map((point) => point && [...point]));
const within = (share) => Math.min(1, Math.max(0, share));
const rgb = (colour, part = 1) => `rgb(${colour.map((channel) => Math.trunc(channel * part)).join(" ")})`;
const shape = (name, parent, attributes = {}) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
};

// Drawing: the shapes are made when the number of people changes, and only moved otherwise, so that a joint
// keeps its focus and the finger that holds it.
const parts = [];
const build = () => {
  canvas.replaceChildren();
  parts.length = 0;
  state.people.forEach((_, index) => {
    const label = state.people.length > 1 ? ` of person ${index + 1}` : "";
    parts.push({
      grips: limbs.map(() => shape("line", canvas, { class: "limb", "data-person": index })),
      bones: limbs.map((_, i) => shape("line", canvas, { class: "bone", stroke: rgb(colours[i], shade) })),
      joints: keypoints.map((name, i) => [
        shape("circle", canvas, {
          class: "joint", "data-person": index, "data-joint": i, tabindex: 0, role: "button",
          "aria-label": name.replaceAll("_", " ") + label,
        }),
        shape("circle", canvas, { class: "ring" }),
      ]),
    });
  });
};

const place = () => {
  if (parts.length !== state.people.length) build();
  const [width, height] = state.size, short = Math.min(width, height);
  const dirty = frame.classList.contains("dirty");
  canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
  state.people.forEach((person, index) => {
    const { grips, bones, joints } = parts[index];
    limbs.forEach(([one, other], i) => {
      const there = person[one] && person[other];
      for (const line of [grips[i], bones[i]]) {
        line.style.display = there && (line === grips[i] || dirty) ? "" : "none";
        if (!there) continue;
        line.setAttribute("x1", person[one][0] * width);
        line.setAttribute("y1", person[one][1] * height);
        line.setAttribute("x2", person[other][0] * width);
        line.setAttribute("y2", person[other][1] * height);
        line.setAttribute("stroke-width", short * (line === grips[i] ? 0.05 : 2 * stroke));
      }
    });
    joints.forEach((pair, i) => pair.forEach((circle, ring) => {
      circle.style.display = person[i] ? "" : "none";
      if (!person[i]) return;
      circle.setAttribute("cx", person[i][0] * width);
      circle.setAttribute("cy", person[i][1] * height);
      // Eyes and ears lie close together: each gets a smaller part to be taken by.
      circle.setAttribute("r", short * (ring ? 0.014 : i === 0 || i > 13 ? 0.024 : 0.042));
    }));
  });
  placeShapes();
  find(".remove").disabled = !(depth() ? state.shapes : state.people).length;
  find(".mirror").disabled = !state.people.length;
  find(".undo").disabled = !state.past.length;
};

// Of messages sent while an answer is awaited gradio lets the last one through, but with the first one's data:
// so all are one object, which always holds the latest.
const letter = { mark: 0 };
const send = (what) => {
  Object.assign(letter, { people: undefined, shapes: undefined, json: undefined }, what);
  letter.mark += 1;
  trigger("input", letter);
};
const snapshot = () => ({ people: copy(state.people), shapes: structuredClone(state.shapes) });
const remember = () => {
  state.past.push(snapshot());
  if (state.past.length > 100) state.past.shift();
};
const changed = () => {
  frame.classList.add("dirty", "drawn");
  place();
  send({ people: state.people, shapes: state.shapes });
};
const change = (alter) => {
  remember();
  alter();
  changed();
};

// Moving by pointer: a joint alone, or by a limb the whole person.
const spot = (event) => {
  const box = event.currentTarget.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};
canvas.addEventListener("pointerdown", (event) => {
  const { person, joint } = event.target.dataset;
  if (person === undefined || event.button) return;
  event.preventDefault();
  if (joint !== undefined) event.target.focus();
  state.person = Number(person);
  state.drag = { joint, from: spot(event), before: snapshot(), moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const drag = state.drag;
  if (!drag) return;
  const now = spot(event);
  if (!drag.moved) {
    drag.moved = true;
    frame.classList.add("dirty");
  }
  const person = state.people[state.person], before = drag.before.people[state.person];
  if (drag.joint !== undefined) person[drag.joint] = now.map(within);
  else before.forEach((point, i) => {
    person[i] = point && [0, 1].map((axis) => Math.min(2, Math.max(-1, point[axis] + now[axis] - drag.from[axis])));
  });
  place();
});
const letGo = () => {
  const drag = state.drag;
  state.drag = null;
  if (!drag || !drag.moved) return;
  state.past.push(drag.before);
  changed();
};
canvas.addEventListener("pointerup", letGo);
canvas.addEventListener("pointercancel", letGo);

// Moving by keys: arrows by a hundredth, with Shift by a twentieth; Delete takes the joint away.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  const { person, joint } = event.target.dataset;
  if (joint === undefined) return;
  state.person = Number(person);
  const way = ARROWS[event.key], step = event.shiftKey ? 0.05 : 0.01;
  if (way) change(() => {
    const point = state.people[person][joint];
    state.people[person][joint] = point.map((share, axis) => within(share + way[axis] * step));
  });
  else if (event.key === "Delete") change(() => { state.people[person][joint] = null; });
  else return;
  event.preventDefault();
});
const undo = () => {
  if (!state.past.length) return;
  Object.assign(state, state.past.pop());
  state.person = Math.min(state.person, Math.max(0, state.people.length - 1));
  changed();
};
root.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.target.matches("textarea")) return;
  event.preventDefault();
  undo();
});

// The tools.
const middle = (person) => {
  const across = person.filter(Boolean).map((point) => point[0]);
  return (Math.min(...across) + Math.max(...across)) / 2;
};
const shifted = (person, by) => person.map((point) => point && [point[0] + by, point[1]]);
const mirrored = (person) => keypoints.map((name, i) => {
  const other = name.startsWith("left_") ? name.replace("left_", "right_") : name.replace("right_", "left_");
  const point = person[keypoints.indexOf(other)];
  return point && [1 - point[0], point[1]];
});
find(".add").addEventListener("click", () => change(() => {
  const where = [0, 0.27, -0.27, 0.14, -0.14][state.people.length % 5];
  state.people = [...state.people, shifted(copy([props.poses.standing])[0], where)];
  state.person = state.people.length - 1;
}));
find(".remove").addEventListener("click", () => change(() => {
  if (depth()) {
    state.shapes = state.shapes.filter((_, index) => index !== state.thing);
    state.thing = Math.max(0, state.shapes.length - 1);
    return;
  }
  state.people = state.people.filter((_, index) => index !== state.person);
  state.person = Math.max(0, state.people.length - 1);
}));
find(".mirror").addEventListener("click", () => change(() => { state.people = state.people.map(mirrored); }));
find(".undo").addEventListener("click", undo);
find(".use").addEventListener("click", () => {
  remember();
  send({ json: find("textarea").value });
});
find(".copy").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(find("textarea").value);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser refused";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
for (const [name, person] of Object.entries(props.poses)) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = name;
  button.setAttribute("aria-label", name);
  const small = shape("svg", button, { viewBox: "0 0 1 1", "aria-hidden": "true" });
  limbs.forEach(([one, other], i) => shape("line", small, {
    x1: person[one][0], y1: person[one][1], x2: person[other][0], y2: person[other][1], stroke: rgb(colours[i], 0.85),
  }));
  button.addEventListener("click", () => change(() => {
    const old = state.people[state.person];
    const alone = state.people.length < 2 || !old.some(Boolean);
    const fresh = copy([person])[0];
    state.people = state.people.length ? [...state.people] : [null];
    state.people[state.person] = alone ? fresh : shifted(fresh, middle(old) - middle(fresh));
  }));
  find(".library").appendChild(button);
}

// What the server says. An answer to an older message than the last is out of date: the last is sent again.
const receive = () => {
  const message = props.value;
  if (!message || !message.kind) return;
  if (message.mark && message.mark < letter.mark) {
    setTimeout(() => trigger("input", letter), 100);
    return;
  }
  if (state.drag) return;
  root.dataset.kind = message.kind;
  state.size = [message.width, message.height];
  state.people = copy(message.people);
  state.shapes = structuredClone(message.shapes);
  state.person = Math.min(state.person, Math.max(0, state.people.length - 1));
  frame.style.aspectRatio = `${message.width} / ${message.height}`;
  frame.style.maxWidth = `${(280 * message.width) / message.height}px`;
  frame.classList.toggle("drawn", Boolean(message.drawn));
  frame.classList.toggle("refused", Boolean(message.refused));
  frame.classList.toggle("bare", !message.map);
  image.hidden = !message.map;
  const save = find(".save");
  save.hidden = !message.map;
  if (message.map) {
    image.src = message.map.url;
    save.href = message.map.url;
    save.download = message.map.orig_name;
  }
  find(".told").textContent = message.map && message.drawn ? "" : message.told;
  image.title = message.told;
  if (message.json && document.activeElement !== find("textarea")) find("textarea").value = message.json;
  const clean = () => { frame.classList.remove("dirty"); place(); };
  if (message.map && !image.complete) image.addEventListener("load", clean, { once: true });
  else clean();
  place();
};
