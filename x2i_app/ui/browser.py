"""JavaScript of the page: keys, a theme that lasts, names for screen readers, plain sentences for files that Gradio
refuses, errors that go with the next try, and another try for images that did not load.
"""

import json

from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.i18n import DEFAULT, LANGUAGE_COOKIE, LANGUAGES, Text, gradio_labels
from x2i_app.ui.tabs import TABS
from x2i_app.ui.theme import NARROW

_TEXTS = {
    language: {
        "wrong": Text("file.wrong").to(language),
        "large": Text("file.large").to(language, files="{files}", most=f"{HTTP_LIMITS.upload_bytes / 1e6:.0f} MB"),
        "failed": Text("failed").to(language),
        "unplayable": Text("input.unplayable").to(language),
        "or": Text("file.or").to(language),
        "kinds": {kind: Text(f"file.{kind}").to(language) for kind in ("image", "video", "audio")},
        "labels": gradio_labels(language),
    }
    for language in LANGUAGES
}

# Runs when the page opens.
ON_LOAD = (
    """() => {
  document.documentElement.lang = navigator.language;
  const theme = localStorage.getItem("x2i-theme");
  if (theme) document.body.classList.toggle("dark", theme === "dark");

  // Ctrl+Enter, on a Mac Cmd+Enter, clicks Generate in the open tab; Esc clicks Stop.
  document.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const generate = [...document.querySelectorAll("[id^=generate-]")].find(button => button.checkVisibility());
      if (generate) { event.preventDefault(); event.stopPropagation(); if (!event.repeat) generate.click(); }
    } else if (event.key === "Escape") {
      const stop = document.querySelector("#stop");
      if (stop?.checkVisibility({visibilityProperty: true})) stop.click();
    }
    // As the ARIA pattern of tabs says: the arrow keys, Home and End move between tabs, and Tab leaves them.
    const tabs = event.target.role === "tab" ? [...event.target.parentElement.querySelectorAll("[role=tab]")] : [];
    const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -tabs.length, End: tabs.length};
    if (tabs.length && event.key in steps) {
      event.preventDefault();
      const at = tabs.indexOf(event.target), to = at + steps[event.key];
      const next = tabs[Math.abs(steps[event.key]) > 1 ? Math.min(Math.max(to, 0), tabs.length - 1)
                                                       : (to + tabs.length) % tabs.length];
      next.click();
      next.focus();
    }
  }, true);

  // Each click queues a job, but the second of a double click is none of its own.
  document.addEventListener("click", event => {
    if (event.detail > 1 && event.target.closest?.("[id^=generate-], #more")) event.stopImmediatePropagation();
  }, true);

  // A new try takes the errors of earlier tries away.
  const closeToasts = toasts => toasts.forEach(toast => toast.querySelector(".toast-close")?.click());
  document.addEventListener("click", event => {
    if (event.target.closest?.("[id^=generate-], #more")) closeToasts([...document.querySelectorAll(".toast-body")]);
  }, true);
  // An image that is pasted anywhere, and files that are dropped anywhere, go into the open tab if it takes them, else
  // into one that does. Areas that take files themselves do it themselves.
  const tabNames = NAMES_OF_TABS;
  const takers = {image: ["image_text", "image", "fusion"], video: ["video", "fusion"], audio: ["audio", "fusion"]};
  const fileInput = tab => [...(document.querySelector(`#generate-${tab}`)?.closest("[role=tabpanel]")
    .querySelectorAll("input[type=file]") ?? [])].find(input => !input.closest(".not-shown"));
  const waitFor = async find => {
    for (let tries = 0; tries < 40; tries++) {
      const found = find();
      if (found) return found;
      await new Promise(done => setTimeout(done, 50));
    }
  };
  const addFiles = async files => {
    const kinds = [...new Set(files.map(file => file.type.split("/")[0]
      || (/[.](heic|heif|avif)$/i.test(file.name) ? "image" : "")))];
    if (!kinds.length || kinds.some(kind => !takers[kind])) return false;
    const open = tabNames.find(name => document.querySelector(`#generate-${name}`)?.checkVisibility());
    const fitting = kinds.length > 1 ? ["fusion"] : files.length < 2 ? takers[kinds[0]]
      : kinds[0] === "image" ? ["image", "fusion"] : ["fusion"];
    const tab = fitting.includes(open) ? open : fitting[0];
    document.querySelectorAll("#tabs [role=tab]")[tabNames.indexOf(tab)].click();
    await waitFor(() => document.querySelector(`#generate-${tab}`)?.checkVisibility());
    if (tab !== "fusion" && tab !== "image") { // these have one place, which may be taken
      const panel = document.querySelector(`#generate-${tab}`).closest("[role=tabpanel]");
      const labels = ["Clear", "Remove Image"].flatMap(label => [label, texts.labels[label] ?? label]);
      const clear = [...panel.querySelectorAll("button[aria-label]")].find(
        button => labels.includes(button.ariaLabel) && !button.closest(".not-shown"));
      if (clear && !fileInput(tab)) clear.click();
    }
    const input = await waitFor(() => fileInput(tab));
    if (!input) return false;
    const transfer = new DataTransfer();
    files.forEach(file => transfer.items.add(file));
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
    return true;
  };
  document.addEventListener("paste", event => {
    const files = [...(event.clipboardData?.files ?? [])].filter(file => file.type.startsWith("image/"));
    if (!files.length || event.target.closest?.(".multimodal-textbox")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    addFiles(files);
  }, true);
  const takesFiles = target => target.closest?.(".block")?.querySelector("input[type=file]");
  document.addEventListener("dragover", event => {
    if (event.dataTransfer?.types.includes("Files") && !takesFiles(event.target)) event.preventDefault();
  });
  document.addEventListener("drop", event => {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.length || takesFiles(event.target)) return;
    event.preventDefault(); // the browser would leave the page and show the file
    addFiles(files);
  });

  // Files that this browser cannot show, such as HEIC: the server sends a preview (image_notice.py), which takes the
  // file's place in whatever shows it.
  const previewOf = address => [...document.querySelectorAll("img[data-preview-of]")].find(
    preview => decodeURIComponent(address).endsWith(`file=${preview.dataset.previewOf}`))?.src;
  window.x2iPreviewOf = address => (address && previewOf(address)) || address;
  let shownPreviews = "";
  const showPreviews = () => {
    const previews = [...document.querySelectorAll("img[data-preview-of]")];
    if (previews.length) {
      for (const image of document.querySelectorAll("img[src*='file=']")) {
        const preview = previewOf(image.src);
        if (preview) image.src = preview;
      }
    }
    const now = previews.map(preview => preview.dataset.previewOf).join();
    if (now !== shownPreviews) window.x2iMaskEditor?.show(...(window.x2iMaskImages ?? ["", ""]));
    shownPreviews = now;
  };
  new MutationObserver(showPreviews).observe(document.body, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["src"]});

  if (!navigator.clipboard) document.body.classList.add("no-clipboard"); // browsers offer it only on safe connections

  // An image whose connection broke is requested again, at most four times: mobile connections lose some.
  const tries = new WeakMap();
  document.addEventListener("error", event => {
    const image = event.target, address = image.src;
    const {last, count} = tries.get(image) ?? {};
    const next = last === address ? count + 1 : 1;
    if (image.tagName !== "IMG" || next > 4) return;
    tries.set(image, {last: address, count: next});
    setTimeout(() => { if (image.src === address) image.src = address; }, 500 * 2 ** next);
  }, true);

  // A video that this browser cannot play, or of which it only plays the audio, is no mistake: the model reads it, and
  // its frames are shown. The listener comes before Gradio's, which would show an alarm.
  const cannotPlay = video => {
    if (video.closest("button") || video.parentElement.querySelector(".cannot-play")) return;
    const text = document.createElement("p");
    text.className = "cannot-play";
    text.setAttribute("role", "status");
    text.innerText = texts.unplayable;
    video.after(text);
    video.style.display = "none";
  };
  document.addEventListener("error", event => {
    if (event.target.tagName !== "VIDEO") return;
    event.stopImmediatePropagation();
    if (event.target.error) cannotPlay(event.target);
  }, true);
  document.addEventListener("loadedmetadata", event => {
    const video = event.target;
    if (video.tagName !== "VIDEO") return;
    if (!video.videoWidth) return cannotPlay(video);
    video.parentElement.querySelector(".cannot-play")?.remove();
    video.style.display = "";
  }, true);

  const languages = TEXTS, texts = languages[navigator.language.toLowerCase().split("-")[0]] ?? languages["DEFAULT"];

  // Labels in which {} stands for what they name: "range slider for {}", "Thumbnail {} of {}".
  const patterns = Object.entries(texts.labels).filter(([text]) => text.includes("{}")).map(
    ([text, label]) => [new RegExp(`^${text.replaceAll("{}", "(.+)")}$`), label]);
  const translateLabel = text => {
    if (texts.labels[text]) return texts.labels[text];
    for (const [pattern, label] of patterns) {
      const values = text.match(pattern)?.slice(1);
      if (values) return label.replace(/{}/g, () => values.shift());
    }
    return text;
  };

  // For screen readers: empty places get a role that allows a name, and examples and text boxes get a name.
  const name = () => {
    for (const place of document.querySelectorAll("div.empty[aria-label]:not([role])")) {
      place.setAttribute("role", "img");
    }
    for (const example of document.querySelectorAll("button.gallery-item:not([aria-label])")) {
      const file = example.querySelector("img, video")?.src.split("/").pop() ?? "";
      const label = decodeURIComponent(file).replace(/[.]\\w+$/, "").replaceAll("-", " ");
      if (!example.innerText.trim()) example.setAttribute("aria-label", label || "...");
    }
    // A button in a button: the inner one closes the error, and a click on the outer one still folds it.
    for (const header of document.querySelectorAll(".toast-header[role=button]")) {
      header.removeAttribute("role");
      header.removeAttribute("tabindex");
    }
    const answer = document.querySelector("#answer textarea")?.value.trim() ?? "";
    for (const image of document.querySelectorAll("#result-images img")) if (image.alt !== answer) image.alt = answer;
    for (const image of document.querySelectorAll("#history-images .thumbnail-item img")) {
      image.alt = image.closest("button").textContent.trim();
    }
    for (const tab of document.querySelectorAll("#tabs [role=tab]")) {
      const index = tab.getAttribute("aria-selected") === "true" ? 0 : -1;
      if (tab.tabIndex !== index) tab.tabIndex = index;
    }
    for (const attribute of ["aria-label", "title"]) {
      for (const part of document.querySelectorAll(`[${attribute}]`)) {
        const text = part.getAttribute(attribute), label = translateLabel(text);
        if (label !== text) part.setAttribute(attribute, label);
      }
    }
    for (const box of document.querySelectorAll(".textarea-wrapper textarea:not([aria-label])")) {
      const label = box.closest(".block")?.querySelector("[data-testid=block-info], [data-testid=block-label]");
      if (label) box.setAttribute("aria-label", label.innerText);
    }
  };

  // When an upload area refuses a file, Gradio names MIME types, and only in English.
  const translate = message => {
    const wrong = message.match(/^Invalid file types?: (.+)[.] Only (.+) allowed[.]$/);
    const large = message.match(/^File[(]s[)] exceed the maximum allowed size of .+?: (.+)$/);
    if (large) return texts.large.replace("{files}", large[1].replaceAll('"', ""));
    if (!wrong) return message;
    const given = wrong[2].split(", "), named = given.filter(kind => texts.kinds[kind.split("/")[0]]);
    const kinds = (named.length ? named : given).map(kind => texts.kinds[kind.split("/")[0]] ?? kind);
    return texts.wrong.replace("{files}", wrong[1]).replace("{kinds}", [...new Set(kinds)].join(texts.or));
  };
  const translateToasts = () => {
    const toasts = [...document.querySelectorAll(".toast-body")];
    closeToasts(toasts.slice(0, -1)); // only the newest stays
    const failure = document.querySelector("#progress .failed")?.innerText.trim();
    if (failure && innerWidth <= NARROW) { // there it would cover text, and the progress says the same
      const says = toast => toast.querySelector("[data-testid=toast-text]")?.innerText.trim();
      closeToasts(toasts.filter(toast => says(toast) === failure));
    }
    for (const toast of document.querySelectorAll("[data-testid=toast-text]")) {
      const message = toast.innerText.trim(), translated = translate(message);
      if (translated !== message) toast.innerText = translated;
    }
    for (const title of document.querySelectorAll("[data-testid=toast-body] .toast-title-row span")) {
      const node = title.firstChild;
      if (/^(Error|Warning)$/.test(node?.data?.trim()) && node.data !== texts.failed) node.data = texts.failed;
    }
  };
  new MutationObserver(translateToasts).observe(document.body, {childList: true, subtree: true});
  new MutationObserver(name).observe(document.body, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"]});
  name();
  document.documentElement.classList.add("listening"); // keys and names work from now on
}""".replace("DEFAULT", DEFAULT)
    .replace("NARROW", str(NARROW))
    .replace("NAMES_OF_TABS", json.dumps([tab.name for tab in TABS]))
    .replace("TEXTS", json.dumps(_TEXTS, ensure_ascii=False))
)

# The image that the user looks at: the one that is opened large, or else the first of the result.
_SHOWN_IMAGE = (
    "(document.querySelector('#result-images [data-testid=detailed-image]') "
    "?? document.querySelector('#result-images img'))"
)
# One image pixel is one pixel of the screen; the browser's own dialog closes with Esc.
ACTUAL_SIZE = f"""() => {{
  const image = {_SHOWN_IMAGE};
  if (!image) return;
  const dialog = document.createElement("dialog"), copy = new Image();
  dialog.id = "actual-size-view";
  copy.src = image.src;
  copy.alt = image.alt;
  copy.onload = () => {{ copy.style.width = `${{copy.naturalWidth / devicePixelRatio}}px`; }};
  dialog.append(copy);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.querySelector(".gradio-container").append(dialog);
  dialog.showModal();
}}"""
COPY_IMAGE = f"""async () => {{
  const image = {_SHOWN_IMAGE};
  if (!image) return;
  // The promise is handed over as it is: some browsers allow the clipboard only at once.
  const png = fetch(image.src).then(answer => answer.blob());
  await navigator.clipboard.write([new ClipboardItem({{"image/png": png}})]);
}}"""
_SHOWN_INDEX = (
    "Math.max(0, [...document.querySelectorAll('#result-images .thumbnail-item')]"
    ".findIndex(image => image.classList.contains('selected')))"
)
SEED_OF_SHOWN_IMAGE = f"report => report?.seeds?.[{_SHOWN_INDEX}] ?? null"


def send_shown_image(place: int) -> str:
    """JavaScript for an event whose value number `place` is the result's images: only the shown one is sent.

    Only the browser knows which image is shown: it forgets the choice when a result arrives and does not say so.
    """
    return f"""(...values) => {{
      const image = values[{place}]?.[{_SHOWN_INDEX}];
      if (image) values[{place}] = [image];
      return values;
    }}"""


COPY_PROMPT = "report => { if (report?.prompt) navigator.clipboard.writeText(report.prompt); }"

TOGGLE_THEME = """() => {
  const dark = document.body.classList.toggle("dark");
  localStorage.setItem("x2i-theme", dark ? "dark" : "light");
}"""

SHOWN_LANGUAGE = f"""() => {{
  const language = navigator.language.toLowerCase().split("-")[0];
  return {json.dumps(LANGUAGES)}.includes(language) ? language : "{DEFAULT}";
}}"""
# The page is built in one language, so it is opened again; what was typed is kept (draft.py). In a frame of another
# site, as on a Space, browsers allow only partitioned cookies.
SWITCH_LANGUAGE = f"""language => {{
  const place = location.protocol === "https:" ? "SameSite=None; Secure; Partitioned" : "SameSite=Lax";
  const path = new URL(".", location).pathname;
  document.cookie = `{LANGUAGE_COOKIE}=${{language}}; Path=${{path}}; Max-Age=31536000; ${{place}}`;
  location.reload();
}}"""

# Clicks Generate in the open tab, after Gradio has shown the tab and set its values.
CLICK_GENERATE = """() => setTimeout(
  () => [...document.querySelectorAll("[id^=generate-]")].find(button => button.checkVisibility())?.click(), 300)"""

# On a phone the tabs are below the result.
SCROLL_TO_TABS = f"() => {{ if (innerWidth <= {NARROW}) document.querySelector('#tabs').scrollIntoView(); }}"
