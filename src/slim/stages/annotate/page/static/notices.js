// Messages about the connection, and about errors.

import {$} from "./elements.js";
import {RequestError} from "./http.js";
import {storage} from "./outbox.js";

const SAID = [421, 422, 507]; // statuses whose reason the server explains
let said = "";

/** Show how many answers wait to be saved; called by the outbox. */
export function showSaved({waiting, failing, error}) {
  const saved = $("saved");
  if (error && SAID.includes(error.status) && error.message !== said) {
    said = error.message; // once, however often it is tried again
    showError("The answers cannot be saved", error);
  }
  if (!waiting) {
    saved.dataset.state = "ok";
    saved.textContent = "All saved";
  } else if (failing) {
    saved.dataset.state = "off";
    const where = storage.lasts ? "stored in this browser" : "stored on this page only, keep it open";
    const reason = error?.status === 403 ? "Link expired, open the new one" : "No connection";
    saved.textContent = `${reason}: ${waiting} ${waiting === 1 ? "answer" : "answers"} ${where}`;
  } else {
    saved.dataset.state = "wait";
    saved.textContent = "Saving…";
  }
  saved.title = saved.textContent;
}

export function showError(title, error) {
  $("trouble-title").textContent = title;
  $("trouble-text").textContent = error instanceof RequestError ? error.message : String(error);
  if (!$("trouble").open) $("trouble").showModal();
}
