// What SLIM takes for the object: its outline on photos that nobody has judged yet.

import {$, make} from "./elements.js";
import {pick} from "./extend_queue.js";
import {describe} from "./labels.js";
import {outline} from "./pictures.js";

const list = $("outlined");
let version = null;

/** Show the outlines that the server found last; the pictures stay in their places where their photos do. */
export function showOutlines(outlines) {
  $("outlines").hidden = !outlines;
  if (!outlines || outlines.version === version) return;
  version = outlines.version;
  $("outlined-note").textContent = outlines.note;
  const {cards} = outlines;
  while (list.children.length > cards.length) list.lastElementChild.remove();
  while (list.children.length < cards.length) list.append(slot());
  cards.forEach((card, i) => fill(list.children[i], card));
}

function slot() {
  const image = make("img"), button = make("button", "", image);
  button.type = "button";
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  return make("li", "", button, make("small"));
}

function fill(item, card) {
  const [button, caption] = item.children;
  caption.textContent = card.caption;
  button.dataset.index = card.index;
  button.setAttribute("aria-label", `Judge the photo ${describe(card)}, ${card.caption}`);
  button.firstElementChild.src = outline(card.index, version); // the last picture stays until this one is there
}

list.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  // Otherwise the space bar would press it again instead of answering unsure.
  if (event.detail) button.blur();
  else $("answers").focus({preventScroll: true});
  pick(Number(button.dataset.index));
});
