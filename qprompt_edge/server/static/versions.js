/**
 * The versions of a task: each can be shown, downloaded, compared with the others, and taken into use
 * again.
 */
import { at, get, post, send } from "./api.js";
import { el, put } from "./dom.js";
import { icon } from "./icons.js";
import { guarded, notice } from "./notices.js";
import { fileButton } from "./adding.js";
import { day, percent, S } from "./strings.js";

/** Take a version into use. */
export async function publish(task, n) {
  await post(at`tasks/${task.name}/versions/${n}/publish`);
  notice(S.versionUsed(n));
  await task.refresh();
}

function row(task, version, shown, again) {
  const { n, created, kind, holdout, published } = version;
  return el(
    "li.version",
    { "aria-current": n === shown && "true" },
    el(
      "button.version-link",
      { type: "button", "aria-label": S.versionShow(n), onclick: () => again(n) },
      el("strong", {}, S.versionN(n)),
      published ? el("span.pill.good", {}, S.versionInUse) : null,
      el("span.version-share", {}, holdout ? percent(holdout.adapted.top1) : "–"),
      el("small.muted", {}, `${S.versionKinds[kind] ?? ""} ${day(created)}. ${S.versionFacts(version)}`),
    ),
    el(
      "div.version-acts",
      {},
      !published &&
        el(
          "button",
          {
            type: "button",
            "aria-label": S.versionUseN(n),
            onclick: guarded(async () => (await publish(task, n), again(shown))),
          },
          S.versionUse,
        ),
      el(
        "a.round",
        {
          href: at`tasks/${task.name}/versions/${n}/file`,
          download: "",
          "aria-label": S.versionDownload(n),
          title: S.versionDownload(n),
        },
        icon("download"),
      ),
      el(
        "a.round",
        {
          href: at`tasks/${task.name}/versions/${n}/report`,
          target: "_blank",
          rel: "noopener",
          "aria-label": S.versionReport(n),
          title: S.versionReport(n),
        },
        icon("report"),
      ),
    ),
  );
}

function compared({ photos, versions }) {
  if (photos === 0) return el("p", {}, S.versionComparedNone);
  return el(
    "div.compared",
    {},
    el("h3", {}, S.versionCompared(photos)),
    el(
      "ul.plain.bars",
      {},
      versions
        .filter(({ top1 }) => top1 !== null)
        .map(({ n, top1 }) => {
          const bar = el("span.bar");
          bar.style.setProperty("--share", percent(top1));
          return el("li", {}, el("span", {}, S.versionN(n)), bar, el("strong", {}, percent(top1)));
        }),
    ),
    el("p.hint", {}, S.versionComparedHelp),
  );
}

/**
 * The list of versions.
 * @param {object} task The task.
 * @param {object[]} versions The newest last.
 * @param {number | null} shown The one that is shown.
 * @param {(n: number | null) => void} again Shows another, or the list anew.
 * @param {Element} result Where a comparison is shown; it outlives the list.
 */
export function versionList(task, versions, shown, again, result) {
  const compare = guarded(async () => {
    put(result, el("p.muted", {}, S.versionComparing));
    try {
      put(result, compared(await get(at`tasks/${task.name}/versions/compare`)));
    } catch (error) {
      put(result);
      throw error;
    }
  });
  const upload = guarded(async ([{ file }]) => {
    const { n } = await send(at`tasks/${task.name}/versions`, file, {
      name: file.name,
      type: "application/octet-stream",
    });
    notice(S.versionUploaded(n));
    again(n);
  });
  return el(
    "section.card",
    {},
    el("h2", {}, S.versions),
    versions.length === 0
      ? el("p.muted", {}, S.versionsNone)
      : el(
          "ul.versions",
          {},
          [...versions].reverse().map((it) => row(task, it, shown, again)),
        ),
    el(
      "div.actions",
      {},
      versions.length > 1 &&
        el("button", { type: "button", onclick: compare }, icon("compare"), S.versionCompare),
      fileButton(S.versionUpload, "upload", { accept: ".qpt" }, upload),
    ),
    result,
  );
}
