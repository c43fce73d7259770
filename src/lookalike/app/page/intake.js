/** The ways in for images: a file, the camera, a drop, a paste. */

import { byId } from "./dom.js";
import { take } from "./query.js";

/** Listen for images; problems are told. */
export function prepareIntake(tell) {
  const accept = async (file, how) => {
    if (!file) return;
    tell("");
    try {
      await take(file, how);
    } catch (error) {
      tell(error.message);
    }
  };
  for (const name of ["file", "camera"]) {
    byId(name).addEventListener("change", (event) => {
      accept(event.target.files[0]);
      event.target.value = "";
    });
  }
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) accept(file, { as: "positive", alone: true });
  });
  prepareDrop((file) => accept(file, { as: "positive", alone: true }));
}

function prepareDrop(accept) {
  const hint = byId("drop-hint");
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    hint.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth -= 1;
    hint.hidden = depth > 0 ? false : true;
  });
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    depth = 0;
    hint.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    accept(event.dataTransfer.files[0]);
  });
}
