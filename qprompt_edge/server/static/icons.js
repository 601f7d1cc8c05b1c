/** Icons as inline SVG, 24 x 24, drawn with the colour of the text. */
import { svg } from "./dom.js";

const PATHS = {
  back: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  photos: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  check:
    "M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM15.300 15.300L20 20M8 10.500l2 2 3.500-3.500",
  teach: "M3 9l9-4 9 4-9 4zM7 11v5c3 2.500 7 2.500 10 0v-5M21 9v6",
  try: "M3 12s3.500-6 9-6 9 6 9 6-3.500 6-9 6-9-6-9-6zM12 9.500a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5z",
  review: "M4 5h16v12H9l-5 4zM8.500 11l2.500 2.500L16 8.500",
  camera: "M4 8h4l1.500-3h5L16 8h4v11H4zM12 10a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7z",
  video: "M3 7h12v10H3zM15 11l6-4v10l-6-4",
  flip: "M5 9a7.500 7.500 0 0 1 13-2l2 2M20 4v5h-5M19 15a7.500 7.500 0 0 1-13 2l-2-2M4 20v-5h5",
  add: "M12 5v14M5 12h14",
  files: "M6 3h8l4 4v14H6zM14 3v4h4M12 11v6M9 14h6",
  folder: "M3 6h6l2 2h10v11H3zM12 11v5M9.500 13.500h5",
  more: "M12 5v.01M12 12v.01M12 19v.01",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.500 11v5M13.500 11v5",
  edit: "M4 20l1-4L16 5l3 3L8 19z",
  move: "M3 6h6l2 2h10v11H3zM9 13.500h6M12.500 11l2.500 2.500-2.500 2.500",
  undo: "M9 6L4 11l5 5M4 11h10a5 5 0 0 1 0 10h-2",
  close: "M6 6l12 12M18 6L6 18",
  done: "M5 12.500l5 5L20 7",
  warn: "M12 4l9 16H3zM12 10v5M12 17.500v.01",
  download: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
  upload: "M12 16V5M7 9.500l5-5 5 5M5 20h14",
  look: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  report: "M6 3h8l4 4v14H6zM14 3v4h4M9 17v-3M12 17v-6M15 17v-4",
  compare: "M6 20V10M12 20V4M18 20v-7",
  keys: "M3 7h18v10H3zM7 10.500v.01M11 10.500v.01M15 10.500v.01M8 14h8",
  broken: "M4 5h16v14H4zM9 9l6 6M15 9l-6 6",
  stop: "M7 7h10v10H7z",
  play: "M8 5l11 7-11 7z",
  offline: "M4 4l16 16M5 11a10 10 0 0 1 3-2M12 7a10 10 0 0 1 7 4M9 14.500a5 5 0 0 1 5-.8M12 18v.01",
};

/** An icon that says nothing to a screen reader: the words stand beside it, or on the button. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" },
    svg("path", { d: PATHS[name] }),
  );
}
