/** What the device's check found, as groups to show: a title, a line, photos, and what mends each. */
import { S } from "./strings.js";

const labelOf = (id) => id.split("/")[0];

const single = (list, title, text, why) =>
  list?.length > 0 && {
    title: title(list.length),
    text,
    photos: list.map((it) => ({ id: it.path, label: it.label ?? labelOf(it.path), why: why?.(it) })),
    all: list.map((it) => ({ id: it.path })),
  };

function duplicateGroups(list) {
  const [across, within] = [list.filter((it) => it.across_classes), list.filter((it) => !it.across_classes)];
  const photos = (groups, keepFirst) =>
    groups.flatMap(({ paths, labels, identical }) =>
      paths.map((id, i) => ({
        id,
        label: labels[i],
        keep: keepFirst && i === 0,
        why: keepFirst && i === 0 ? S.findKept : identical ? S.findSame : S.findAlike,
      })),
    );
  const spare = within.flatMap(({ paths }) => paths.slice(1).map((id) => ({ id })));
  return [
    across.length > 0 && {
      title: S.findAcross(across.length),
      text: S.findAcrossText,
      photos: photos(across, false),
    },
    within.length > 0 && {
      title: S.findDuplicates(within.length),
      text: S.findDuplicatesText,
      photos: photos(within, true),
      all: spare,
    },
  ];
}

/**
 * The groups, the most telling first.
 * @param {object} found What `qprompt-edge check --json` prints, with photos' ids as paths.
 * @returns {{title: string, text: string, photos?: object[], all?: object[], label?: string}[]}
 */
export function findings(found) {
  const wrong = found.mislabelled ?? [];
  return [
    wrong.length > 0 && {
      title: S.findMislabelled(wrong.length),
      text: S.findMislabelledText,
      photos: wrong.map((it) => ({
        id: it.path,
        label: it.label,
        to: it.looks_like,
        why: S.findLooksLike(it.looks_like, it.doubt),
      })),
    },
    ...duplicateGroups(found.duplicates ?? []),
    single(found.unreadable, S.findUnreadable, S.findUnreadableText, (it) => it.reason),
    single(found.blurred, S.findBlurred, S.findBlurredText),
    single(found.dark, S.findDark, S.findDarkText),
    single(found.blown_out, S.findBlown, S.findBlownText),
    ...(found.mixed_up ?? []).map(({ labels: [a, b], wrong: n, photos, share, interval, paths }) => ({
      title: S.findMixed(a, b),
      text: S.findMixedText(n, photos, share, interval),
      photos: paths.map((id) => ({ id, label: labelOf(id), to: labelOf(id) === a ? b : a })),
    })),
    ...(found.short_classes ?? []).map(({ label, photos, distinct, wanted }) => ({
      title: S.findShort(label),
      text: S.findShortText(photos, distinct, wanted),
      label,
    })),
  ].filter(Boolean);
}
