// What the page says of the connection, and of what went wrong.

import {$} from "./elements.js";
import {shelf, Trouble} from "./link.js";

/** How many answers wait to be saved; called by the outbox. */
export function tell({waiting, failing, trouble: error}) {
  const saved = $("saved");
  if (error && error.status >= 400 && error.status < 500 && error.status !== 403) trouble("An answer was refused", error);
  if (!waiting) {
    saved.dataset.state = "ok";
    saved.textContent = "All saved";
  } else if (failing) {
    saved.dataset.state = "off";
    const where = shelf.lasts ? "kept in this browser" : "kept on this page: leave it open";
    saved.textContent = error?.status === 403 ? `Open the new link: ${waiting} ${where}` : `No connection: ${waiting} ${where}`;
  } else {
    saved.dataset.state = "wait";
    saved.textContent = "Saving";
  }
  saved.title = saved.textContent;
}

export function trouble(title, error) {
  $("trouble-title").textContent = title;
  $("trouble-text").textContent = error instanceof Trouble ? error.message : String(error);
  if (!$("trouble").open) $("trouble").showModal();
}
