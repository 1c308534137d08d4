"""What is typed, added and set on the page, kept in the browser: it is there again after a reload or a crash."""

import gradio as gr

from x2i_app.ui.context import BROWSER_ONLY, Panel

# Until the kept values are back, nothing is kept: the page's first values would replace them.
_SAVE = """(preset, ...values) => {
  if (!window.x2iDraft) return;
  try { localStorage.setItem("x2i-draft", JSON.stringify({preset, values})); }
  catch { localStorage.removeItem("x2i-draft"); } // the browser has no more space for this page
}"""
# Files lie on the server, which deletes them after a day. Gradio shows an empty number as 0, which would be a seed.
_RESTORE = """async (preset, ...values) => {
  for (const i of EMPTY) values[i] = null;
  try {
    const kept = JSON.parse(localStorage.getItem("x2i-draft"));
    if (kept?.preset === preset && kept.values.length === values.length) {
      const exists = async value => {
        if (!value || typeof value !== "object") return true;
        if (value.url) return (await fetch(value.url, {method: "HEAD"})).ok;
        return (await Promise.all(Object.values(value).map(exists))).every(Boolean);
      };
      const found = await Promise.all(kept.values.map(exists));
      values = values.map((value, i) => found[i] ? kept.values[i] : value);
    }
  } catch (error) { console.warn(error); }
  window.x2iDraft = true;
  return values;
}"""


class Draft(Panel):
    """Keeps the values of all tabs and of the settings, for the model that is loaded."""

    def connect(self) -> None:
        context = self.context
        preset = context.model.choices[0]
        kept = [*context.settings.values, *context.settings.later, *context.tab_inputs]
        kept += [*context.video_parts, context.batch.prompts]
        empty = [component for component in kept if isinstance(component, gr.Number) and component.value is None]
        restore = _RESTORE.replace("EMPTY", str([kept.index(component) for component in empty]))
        context.page.load(None, [preset, *kept], kept, js=restore, **BROWSER_ONLY)
        for component in kept:
            component.change(None, [preset, *kept], None, js=_SAVE, **BROWSER_ONLY)
