"""The English of the reports, in one place; braces are filled in with escaped text."""

from __future__ import annotations

ADAPT_KIND = "Report of an adaptation"
EVAL_KIND = "Report of an evaluation"
ADAPT_LEAD = "{classes}, tuned on {trained}. Made on {made}."
EVAL_LEAD = "{classes}, judged on {judged}. Made on {made}."
ON_THIS_PAGE = "On this page"

HELPED = "The prompt helps"
WORSE = "The prompt makes it worse"
UNSURE = "Too close to call"
NOT_JUDGED = "Not judged"
WITHOUT = "class names alone"
WITH = "with the prompt"
FOUND = "Of {photos}, {after} are recognised with the prompt, and {before} by the class names alone."
HELD_OUT = "{photos} that it was not tuned on"
DIFFERENCE = (
    "That is a difference of {difference} points. Its 95% interval is {low} to {high} points: measured on very many photos "
    "like these, the difference would most likely lie there (paired test: p {p})."
)
CHANCE = (
    "The difference may be chance. More photos to judge by would tell: hold out more of them, or judge by photos of "
    "your own."
)
MAY_HELP = (
    "What may help: more photos of each class, class names that say in plain words what is seen, more bits a weight, or "
    "a larger backbone."
)
NOTHING_HELD_OUT = (
    "No photo was held out, so nothing says how good this prompt is. Hold some out, or judge by other photos."
)
MAY_BE_TRAINED = (
    "If the prompt was tuned on some of these photos, the accuracies with the prompt are too high."
)

ACCURACY = "How good it is"
ACCURACY_CAPTION = (
    "Share of {photos} that are recognised, and below it the 95% interval: where the accuracy on very many "
    "photos like these most likely lies. The mean over classes counts each class alike."
)
ACCURACY_COLUMNS = ("classifier", "recognised", "mean over classes")
ZERO_SHOT = ("zero-shot", "the class names alone, no photo")
CONTEXT = ("context alone", "the words of the prompt, without what was learned for each class")
ADAPTED = ("with the prompt", "the file that this report is about")
PROBE = ("linear probe", "logistic regression on the same features: a yardstick")

REFUSED = "None of these: {refused} of {photos}."
OF_THE_OTHERS = "Of the others, {top1} are recognised."

PER_CLASS = "Class by class"
PER_CLASS_CAPTION = "The classes with the lowest accuracy first; the bars are 95% intervals."
PER_CLASS_COLUMNS = ("class", "right answers")
OTHERS = "taken for: {names}"
ALL_RIGHT = "Without a mistake: {names}."
NO_PHOTOS = "Without a photo to judge by: {names}."

CONFUSION = "What is taken for what"
MATRIX_CAPTION = "Photos of each class (rows) by the answer they got (columns). The diagonal is right."
MATRIX_CORNER = "class"
PAIRS_CAPTION = "The most frequent confusions: {shown} of {all}."
PAIRS_COLUMNS = ("class", "taken for", "photos")
NO_CONFUSION = "Nothing was taken for something else."
OF = "{part} of {all}"

RELIABILITY = "Can its confidence be believed?"
RELIABILITY_CAPTION = (
    "Photos by how sure the prompt was (from left to right), and how many of them were right (from bottom to top). On the "
    "dashed line, it is right as often as it says. The larger a dot, the more photos."
)
RELIABILITY_ALT = "Reliability diagram: {points}."
RELIABILITY_POINT = "{photos} with a confidence of {confidence}, of which {accuracy} are right"
CONFIDENCE_AXIS = "confidence"
RIGHT_AXIS = "right"
SURE = "On average it is {confidence} sure, and {accuracy} of its answers are right: {meaning}."
TOO_SURE = "it is surer than it should be"
TOO_MODEST = "it is right more often than it says"
FITTING = "that fits, as far as {photos} can tell"
CALIBRATION_ERROR = "The calibration error is {error} (mean distance from the dashed line, 15 bins)."

MISTAKES = "The mistakes"
MISTAKES_COUNTED = "{mistakes} taken for another class, the surest first."
MISTAKES_LEFT_OUT = "The first {shown} are shown, {left} are left out here."
NO_MISTAKES = "None: every photo was right."
TAKEN_FOR = "{label} taken for {predicted}, {probability}"
PICTURE_ALT = "A photo of {label}, taken for {predicted}"
LOST_PICTURE = "No picture: {reason}"

NEEDS = "Classes that need photos"
FEW = "Fewer than 10 photos to learn from, where 10 to 30 are a good start: {names}."
OFTEN_WRONG = "Right in less than three of four photos: {names}."
UNJUDGED = "No photo to judge by: {names}."
NEEDS_NOTHING = "None stands out."

CHECKED = "What a check of the photos found"
NOTHING_FOUND = "Nothing wrong was found in {photos} of {classes}."
FINDINGS_CAPTION = "The most telling first."
LOOKS_LIKE = "{label} looks like {other}, doubt {doubt}"
FINDING_ALT = "A photo of {label}"
FINDINGS_LEFT_OUT = "The first {shown} are shown, {left} are left out here."
ENOUGH = "Are there enough photos?"
CURVE_CAPTION = (
    "Accuracy of a linear probe by how many photos of a class it learned from, judged on other photos; the lines are "
    "95% intervals."
)
CURVE_ALT = "Learning curve: {points}."
CURVE_POINT = "{accuracy} from {photos} photos"
PHOTOS_AXIS = "photos of a class"

LEFT_OUT = "Photos that were left out"
LEFT_OUT_CAPTION = "Files that were skipped: {shown} of {all}."
LEFT_OUT_COLUMNS = ("file", "why")
SAME = "The same photo is in several classes, where at most one label is right; it is not judged by:"
SAME_COUNTED = (
    "The same photo is in several classes, where at most one label is right; it counts at each place:"
)

SIZE = "Size of the file"
SIZE_CAPTION = (
    "What has to be shipped for these {classes} on the backbone {backbone}; the bars are logarithmic."
)
SIZE_COLUMNS = ("what", "bytes")
SIZES = (
    ("this prompt file", "as written"),
    ("linear classifier, 16-bit floats", "({width} weights + 1) × {classes} classes × 2 bytes"),
    ("linear classifier, 32-bit floats", "({width} weights + 1) × {classes} classes × 4 bytes"),
    ("CoOp's context, 32-bit floats", "16 vectors × 512 × 4 bytes, as for a ViT-B/16"),
    ("fine-tuned image tower", "this backbone's image weights, as they are stored"),
)
TIMES = "{times} times as large"

SETTINGS = "Settings"
OFF = "off"
TIMES_TAKEN = "{total} (photos {encode}, tuning {train})"
NAMES = {
    "photos": "Photos",
    "labels": "List of labels",
    "test_images": "Test photos",
    "class_names": "Class names",
    "holdout": "Held out",
    "shots": "Photos a class",
    "views": "Augmented views",
    "contexts": "Contexts",
    "epochs": "Epochs",
    "steps": "Steps",
    "batch_size": "Photos a step",
    "lr": "Learning rate",
    "seed": "Seed",
    "time": "Time",
    "memory": "Memory at most",
    "provider": "Execution provider",
    "method": "Method",
    "bits": "Bits a weight",
    "template": "Words",
    "accept": "None of these",
    "backbone": "Backbone",
    "fingerprint": "Fingerprint",
    "licence": "Licence of the backbone",
    "tool": "Made by",
}
"""Settings by their names in `reports`."""
AND_MORE = "and {count} more"
MORE_ROWS = "{count} more are not shown."
