/** Every word of the page, in one place. Functions take what is put into a line. */

const whole = new Intl.NumberFormat("en");

/** "1 photo", "2 photos". */
export const count = (n, one, many = one + "s") => `${whole.format(n)} ${n === 1 ? one : many}`;
export const percent = (share) => `${Math.round(100 * share)}%`;
const points = (share) => `${share >= 0 ? "+" : "−"}${Math.abs(Math.round(100 * share))}`;

/** "40 s", "3 min". */
export const duration = (seconds) => {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
};

export const size = (bytes) => {
  if (bytes < 1000) return count(bytes, "byte");
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
};

export const day = (iso) => new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

export const S = {
  product: "qprompt-edge",
  skip: "Skip to the content",
  shortcuts: "Keyboard shortcuts",
  close: "Close",
  cancel: "Cancel",
  undo: "Undo",
  undone: (what) => `Undone: ${what}`,
  nothingToUndo: "There is nothing to undo.",
  remove: "Delete",
  rename: "Rename",
  more: (what) => `More for ${what}`,
  noAnswer: "The device does not answer.",
  offline: "The device does not answer. Trying again; what you see may be old.",
  online: "The device answers again.",
  refused: (status) => `The device refused this (status ${status}).`,
  failed: "This did not work",
  notFound: "This page does not exist.",
  allTasks: "All tasks",

  // the token
  tokenTitle: "This device asks for a token",
  tokenHelp:
    "It was printed when the server was started. Open the link that was printed there, or paste the token here.",
  token: "Token",
  tokenSend: "Unlock",

  // tasks
  tasks: "Tasks",
  heroTitle: "Teach this device to tell things apart",
  heroText: "Everything stays on the device: no cloud, no account.",
  steps: [
    ["Name", "Say what there is to tell apart."],
    ["Photos", "Take a dozen photos of each."],
    ["Teach", "Seconds later it answers, and says how good it is."],
  ],
  taskField: "What is it about?",
  taskExample: "For example: sorting belt",
  taskAdd: "Start",
  newTask: "New task",
  taskNameRule: "1 to 60 letters, digits, spaces, - or _",
  taskRename: "Rename the task",
  taskDeleted: (name) => `Task “${name}” deleted.`,
  taskFacts: (classes, photos) => `${count(classes, "class", "classes")}, ${count(photos, "photo")}`,
  taskNone: "Not taught yet",
  taskInUse: (n) => `In use: version ${n}`,
  taskBusy: "Working…",
  toReview: (n) => `${count(n, "frame")} to review`,

  // within a task
  tabs: { photos: "Photos", check: "Check", teach: "Teach", try: "Try it", review: "Review" },
  tabsLabel: "Parts of the task",
  nextLabel: "Next",
  nextFirstClass: "Name the first thing to tell apart.",
  nextSecondClass: "Name at least one more thing.",
  nextPhotos: (label, n, goal) => `photos of “${label}” (${n} of ${goal} so far).`,
  nextTeach: "There are enough photos to start with.",
  nextTeachGo: "Teach it",
  nextTry: "It is taught. See what it answers.",
  nextTryGo: "Try it",
  nextAgain: "It has not learned the last changes yet.",
  nextAgainGo: "Teach it",

  // classes
  classes: "Classes",
  classField: "Name of the class",
  classExample: "For example: ripe",
  classExampleMore: "For example: unripe",
  classAdd: "Add",
  classRename: "Rename the class",
  classDeleted: (label, n) => `Class “${label}” and its ${count(n, "photo")} deleted.`,
  classCount: (n, goal) => (n >= goal ? count(n, "photo") : `${n} of ${goal} photos`),
  allPhotos: "All photos",
  classesHelp: "Use the words that a person would use: the device knows many of them already.",

  // photos
  takePhoto: "Take photo",
  takePhotoOf: (label) => `Take photo of ${label}`,
  liveCamera: "Live camera",
  liveCameraOf: (label) => `Live camera for ${label}`,
  addFiles: "Add files",
  addFolder: "Add a folder",
  dropHere: "Drop photos, folders or a zip here",
  dropInto: (label) => `Drop to add to “${label}”`,
  dropClasses: "A folder with sub-folders becomes classes of their names.",
  noPhotosYet: "No photos yet",
  noPhotosHelp:
    "A dozen is a good start: different sides, places and light, as the camera will see it later.",
  noClassesYet: "Nothing to tell apart yet",
  noClassesHelp:
    "Add the first class, then photos of it. Or drop a folder that has one sub-folder per class.",
  photoList: (label) => `Photos: ${label}`,
  photoName: (label, i, n) => `${label}, photo ${i} of ${n}`,
  photoBroken: "cannot be shown",
  photoAlt: (label) => `Photo of ${label}`,
  selected: (n) => `${whole.format(n)} selected`,
  selectAll: "Select all",
  selectNone: "Clear",
  moveTo: "Move to…",
  moveTitle: (n) => `Move ${count(n, "photo")} to`,
  moved: (n, label) => `${count(n, "photo")} moved to “${label}”.`,
  deleted: (n) => `${count(n, "photo")} deleted.`,
  look: "Look",
  photosTitle: "Photo",
  previous: "Previous photo",
  nextPhoto: "Next photo",
  position: (i, n) => `${whole.format(i)} of ${whole.format(n)}`,
  whichClass: "Which class are these?",
  whichClassNew: "A new class",

  // sending
  sending: (done, total) => `Sending ${whole.format(Math.min(done + 1, total))} of ${whole.format(total)}`,
  sendingWaits: "Waiting for the device…",
  sent: (n) => `${count(n, "photo")} added.`,
  sentSkipped: (n) => `${count(n, "file")} left out.`,
  sentWhy: "Which, and why",
  sentTitle: "Files that were left out",
  sendCancelled: "cancelled",
  sendStop: "Stop sending",
  sendGaveUp: "the device did not answer",
  sendRepeated: "it is there already",
  notAPhoto: "not a photo (by its name)",

  // webcam
  cameraTitle: "Live camera",
  shutter: "Take a photo; hold for a burst",
  shutterHelp: "Hold the button, or a number key, for a burst.",
  cameraFlip: "Other camera",
  cameraTaken: (n, label) => `${n} taken for “${label}”`,
  cameraInsecureTitle: "Why there is no live camera here",
  cameraInsecure: [
    "This page came over plain http from another address. Browsers give a live camera only to pages that came over https, or from the same machine.",
    "To get it, start the server with --tls, open the https address it prints, and accept its certificate once. Compare the fingerprint that it prints.",
    "Single photos work without it.",
  ],
  cameraTlsCommand: "qprompt-edge serve --tls …",
  cameraMissing: "This browser offers no camera.",
  cameraDenied: "The browser did not give the camera: allow it in the address bar, then try again.",
  cameraNone: "No camera was found. Plug one in, then try again.",
  cameraBusy: "The camera is in use by another program.",
  cameraWaiting: "Waiting for the camera…",
};

Object.assign(S, {
  // check
  checkTitle: "Look at the photos",
  checkText:
    "Finds blurred, dark, repeated and probably mislabelled photos, and says whether there are enough.",
  checkRun: "Check the photos",
  checkAgain: "Check again",
  checkRunning: "Checking the photos",
  checkNeeds: "Add photos first, then check them here.",
  checkClean: "Nothing to mend. These photos look good.",
  checkFound: (n) => `${count(n, "finding")}`,
  checkOld: "The photos changed since this check.",
  checkDelete: "Delete",
  checkDeleteAll: (n) => `Delete all ${n}`,
  checkMoveTo: (label) => `Move to ${label}`,
  checkDone: "mended",
  checkMorePhotos: "Take photos",

  checkNotShown: (n) => `${whole.format(n)} more are not shown.`,
  findMislabelled: (n) => `${count(n, "photo")} may be in the wrong class`,
  findMislabelledText: "They look more like another class than like their own.",
  findLooksLike: (label, doubt) => `looks like ${label} (${percent(doubt)})`,
  findAcross: (n) =>
    n === 1 ? "The same photo is in two classes" : `${count(n, "photo")} are in several classes`,
  findAcrossText: "At most one of the labels is right. Delete the wrong ones.",
  findDuplicates: (n) =>
    n === 1 ? "Photos that are nearly the same" : `${n} groups of photos that are nearly the same`,
  findDuplicatesText: "Copies teach nothing new, and make the verdict look better than it is.",
  findKept: "the first one",
  findSame: "the same file",
  findAlike: "nearly the same",
  findUnreadable: (n) => `${count(n, "file")} cannot be read`,
  findUnreadableText: "They are left out when it is taught.",
  findBlurred: (n) => `${count(n, "photo")} ${n === 1 ? "is" : "are"} blurred`,
  findBlurredText: "Far less fine detail than in the other photos.",
  findDark: (n) => `${count(n, "photo")} ${n === 1 ? "is" : "are"} too dark`,
  findDarkText: "Even the bright parts are dark.",
  findBlown: (n) => `${count(n, "photo")} ${n === 1 ? "is" : "are"} blown out`,
  findBlownText: "Even the dark parts are bright.",
  findMixed: (a, b) => `“${a}” and “${b}” are hard to tell apart`,
  findMixedText: (n, photos, share, [low, high]) =>
    `${n} of ${photos} photos look more like the other of the two (${percent(share)}; 95% interval ${percent(low)} to ${percent(high)}). Take photos that show the difference, or make them one class.`,
  findShort: (label) => `“${label}” is short of photos`,
  findShortText: (photos, distinct, wanted) =>
    `${count(photos, "photo")}${distinct < photos ? `, ${distinct} of them different` : ""}; at least ${wanted} are better.`,
  curveTitle: "Are there enough photos?",
  curveNone: "Too few photos to tell. Add more of each class.",
  curveEnough: (gain, [low, high]) =>
    `Yes. Twice as many would add about ${points(gain)} points (${points(low)} to ${points(high)}).`,
  curveMore: (gain, [low, high]) =>
    `Not yet. Twice as many would add about ${points(gain)} points (${points(low)} to ${points(high)}).`,
  curveUnsure: (gain, [low, high]) =>
    `Too close to call: twice as many would change about ${points(gain)} points (${points(low)} to ${points(high)}).`,
  curvePoint: (photos, share) => `${Math.round(photos)} photos of each class: ${percent(share)}`,
  curveAxis: "photos of each class",

  // teach
  teachTitle: "Teach",
  teachText: (classes, photos) =>
    `Learns ${count(classes, "class", "classes")} from ${count(photos, "photo")}. A fifth is kept aside to judge by.`,
  teachRun: "Teach it",
  teachAgain: "Teach it again",
  teachResume: "Go on where it stopped",
  teachUpdate: "Learn the new photos only",
  teachRunning: "Learning",
  teachQueued: "Waiting for its turn",
  teachNeedsClasses: "It takes at least two classes. Add them under Photos.",
  teachNeedsPhotos: (label) => `“${label}” has no photos yet. Take some, then come back.`,
  teachFailed: "Teaching failed",
  teachCancelled: "Stopped. What was learned so far is kept.",
  toPhotos: "Go to the photos",
  timeLeft: (seconds) => `about ${duration(seconds)} left`,
  progressOf: (done, total) => `${whole.format(done)} of ${whole.format(total)}`,
  resultTitle: (n) => `Version ${n}`,
  verdictNothing: "Nothing was held out, so nothing says how good this version is. Try it.",
  verdictUpload: "This version came as a file. Compare it with the others, or try it.",
  verdictUpdated: "Learned from the new photos without judging anew. Teach it again for a full verdict.",
  verdictMissing: (labels) => `No photo to judge by: ${labels.join(", ")}.`,
  verdictClass: (label, right, n) => `${label}: ${right} of ${n} right`,
  parts: {
    accuracy: "How good it is",
    classes: "Class by class",
    confusion: "What is taken for what",
  },
  mistakes: "Its mistakes",
  mistakesHelp: "Most labels here are right: leave those photos as they are. Move a photo only if its label is wrong.",
  mistakeSaid: (predicted, probability) => `taken for ${predicted}, ${percent(probability)}`,
  mistakeIs: (label) => `is ${label}`,
  versions: "Versions",
  versionsNone: "No version yet.",
  versionN: (n) => `Version ${n}`,
  versionKinds: { adapt: "taught", update: "updated", upload: "uploaded" },
  versionInUse: "In use",
  versionUse: "Use this one",
  versionUseN: (n) => `Use version ${n}`,
  versionUsed: (n) => `Version ${n} is in use now.`,
  versionFacts: (v) => [v.photos ? count(v.photos, "photo") : null, size(v.bytes)].filter(Boolean).join(", "),
  versionDownload: (n) => `Download version ${n} (.qpt)`,
  versionReport: (n) => `Report of version ${n}`,
  versionUpload: "Upload a .qpt",
  versionUploaded: (n) => `Uploaded as version ${n}.`,
  versionCompare: "Compare on the same photos",
  versionComparing: "Comparing…",
  versionCompared: (n) => `Right on the same ${count(n, "photo")}`,
  versionComparedHelp: "None of these photos was used to teach any of the versions.",
  versionComparedNone:
    "Each photo was used to teach one of the versions, so there is none to compare them on. Add photos first.",
  versionShow: (n) => `Show version ${n}`,

  // try
  tryNeeds: "There is nothing to try yet.",
  tryNeedsHelp: "Teach it first: it takes a few seconds.",
  trySource: "Where the picture comes from",
  tryWebcam: "Live camera",
  tryPhoto: "Take photo",
  tryFile: "Choose a photo",
  tryDevice: (name) => `Device camera ${name}`,
  tryStop: "Stop",
  tryNone: "None of these",
  tryNoneHelp: "It looks like nothing that it was taught.",
  tryAllowNone: "Answer “none of these”",
  tryWaiting: "Show it something",
  tryWaitingHelp: "Start a camera or choose a photo.",
  tryAnswer: "Answer",
  trySure: (share) => `${percent(share)} sure`,
  tryTook: (seconds) => `${Math.round(1000 * seconds)} ms on the device`,
  tryStrip: "Last answers",
  tryWrong: "Not right? Say what it is:",
  tryKept: (label) => `Kept as a photo of “${label}”.`,
  tryLearn: "Learn it now",
  tryLearned: (n) => `Learned. Version ${n} is in use.`,
  tryCannotShow: "This browser cannot show the photo; the device can read it.",

  // review
  reviewTitle: "Review",
  reviewEmpty: "Nothing to review",
  reviewEmptyHelp: "A camera loop can keep the frames it is least sure of, for you to look at here:",
  reviewCommand: (task) => `qprompt-edge watch --prompt "${task}.qpt" --review "${task}.review" …`,
  reviewLeft: (n) => `${count(n, "frame")} left`,
  reviewSaid: (label, share) => `It said ${label}, ${percent(share)} sure`,
  reviewSaidNone: (label) => `It said none of these (nearest: ${label})`,
  reviewWhat: "What is it?",
  reviewConfirm: (label) => `Yes, ${label}`,
  reviewDiscard: "Throw away",
  reviewSaved: (label) => `Kept as “${label}”.`,
  reviewDiscarded: "Thrown away.",
  reviewDone: (n) => `${count(n, "frame")} labelled.`,
  reviewLearn: "Update and use it",
  reviewLearnHelp: "Learns the new photos; the camera loop takes the new version up by itself.",
  reviewKeys: "Enter: yes. 1 to 9: that class. Delete: throw away. U: undo.",
  reviewFrom: (source, time) => `${source}, ${time}`,
  reviewFrame: "Frame to review",

  // shortcuts
  keysGlobal: "Everywhere",
  keysPhotos: "Photos",
  keysCamera: "Live camera",
  keysReview: "Review",
  keys: {
    global: [
      ["?", "these shortcuts"],
      ["Ctrl Z", "undo the last change of classes and photos"],
      ["Alt 1 to Alt 5", "photos, check, teach, try it, review"],
    ],
    photos: [
      ["Arrows", "go from photo to photo"],
      ["Space", "select or clear"],
      ["Shift Arrows", "select as you go"],
      ["Ctrl A", "select all"],
      ["1 to 9", "move what is selected to that class; else show that class"],
      ["0", "show all classes"],
      ["Delete", "delete what is selected"],
      ["Enter", "look at the photo"],
      ["Escape", "clear the selection"],
    ],
    camera: [
      ["Space", "take a photo; hold for a burst"],
      ["1 to 9", "take one for that class; hold for a burst"],
    ],
    review: [
      ["Enter", "it is right"],
      ["1 to 9", "it is that class"],
      ["Delete", "throw away"],
      ["U", "undo"],
    ],
  },
});
