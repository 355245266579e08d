// A dot for each query, by class.

const strip = document.getElementById("strip");
let stripOf = "";

/** Paint the dots; they are rebuilt only when the queue has grown. */
export function paintStrip({queue, answers, flags, session}, current) {
  const key = queue.map(card => card.index).join();
  if (key !== stripOf) {
    stripOf = key;
    strip.replaceChildren(...session.classes.map((name, y) => row(queue, name, y, session.space)).filter(Boolean));
  }
  strip.querySelectorAll("button[data-at]").forEach(button => {
    const card = queue[button.dataset.at], answer = answers.get(card.index) ?? (flags.has(card.index) ? "flagged" : "");
    button.className = answer;
    button.setAttribute("aria-label", `${Number(button.dataset.at) + 1}, ${session.classes[card.y]}, ${answer || "no answer"}`);
    button.setAttribute("aria-current", String(card === current));
  });
}

function row(queue, name, y, growing) {
  const places = queue.map((card, at) => [card, at]).filter(([card]) => card.y === y);
  if (!places.length) return null;
  const element = document.createElement("div"), label = document.createElement("span"), list = document.createElement("ol");
  label.textContent = name;
  label.title = name;
  const item = button => {
    const li = document.createElement("li");
    li.append(button);
    list.append(li);
  };
  places.forEach(([, at]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.at = at;
    button.tabIndex = -1;
    button.append(document.createElement("i"));
    item(button);
  });
  if (growing) {
    const more = document.createElement("button");
    more.type = "button";
    more.className = "more";
    more.dataset.more = y;
    more.textContent = "+5 more";
    more.setAttribute("aria-label", `Ask about five more photos of ${name}`);
    item(more);
  }
  element.append(label, list);
  return element;
}
