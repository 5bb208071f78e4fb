"""How the page looks beside Gradio's own style, and what it is called by those who read it aloud."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mmadapters.webpage.model import PageModel

STYLE = """
:root { --mm-quiet: #52525B; --mm-alarm: #B00020; } .dark { --mm-quiet: #C8C8D0; --mm-alarm: #FF8A80; }
.gradio-container { max-width: 76rem !important; }
.mm-head h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
.mm-head p, .mm-results p { margin: .35rem 0; color: var(--mm-quiet); overflow-wrap: anywhere; }
.mm-results h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; } .mm-results h2:first-child { margin-top: 0; }
.mm-results table { width: 100%; border-collapse: collapse; margin: 0; font-variant-numeric: tabular-nums; }
.mm-results table, .mm-results thead, .mm-results tbody, .mm-results tr { border: 0 !important; }
.mm-results th, .mm-results td { padding: .35rem .4rem; border: 0 !important; text-align: left; vertical-align: middle;
  border-bottom: 1px solid var(--border-color-primary) !important; color: var(--body-text-color); }
.mm-results thead th { font-weight: 600; font-size: .85rem; color: var(--mm-quiet); white-space: nowrap; }
.mm-results tbody th { font-weight: 400; min-width: 6.5rem; overflow-wrap: anywhere; }
.mm-results tr.mm-yes th, .mm-results tr.mm-yes td { font-weight: 700; }
.mm-results .mm-number { text-align: right; white-space: nowrap; width: 1%; }
.mm-results td.mm-bar { width: 45%; } .mm-results td.mm-said { min-width: 5.5rem; overflow-wrap: anywhere; }
.mm-track { position: relative; height: .85rem; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); border-radius: 2px; }
.mm-fill { height: 100%; background: #0072B2; border-radius: 1px; } .mm-no .mm-fill { background: #8FA3B0; }
.mm-tick { position: absolute; top: -.3rem; bottom: -.3rem; width: 0; border-left: 2px solid #D55E00; }
.mm-key { display: inline-block; height: .8rem; border-left: 2px solid #D55E00; margin: 0 .35rem 0 .1rem;
  vertical-align: -.1rem; }
.mm-results img { max-width: 100%; height: auto; margin: 0; background: #fff; border-radius: 4px; }
.mm-results p.mm-prediction { font-size: 1.15rem; } .mm-prediction strong { color: var(--body-text-color); }
.mm-results .mm-error, .mm-error { color: var(--mm-alarm); font-weight: 600; overflow-wrap: anywhere; }
.mm-note { padding: .5rem .75rem !important; background: var(--block-background-fill); }
.mm-note:not(:has(.mm-error)) { display: none !important; }
.mm-results .mm-changed { font-weight: 700; }
.mm-results summary { cursor: pointer; padding: .4rem 0; }
@media (max-width: 480px) { .mm-results th, .mm-results td { padding: .35rem .25rem; } }
"""
"""Colours are Okabe and Ito's, and nothing is told by colour alone."""

_SCRIPT = """
(() => {
  const names = NAMES;
  const set = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };
  const name = () => {
    for (const [id, label] of Object.entries(names)) {
      const field = document.getElementById(id);
      if (!field) continue;
      for (const input of field.querySelectorAll('input[type=file]')) set(input, 'aria-label', label);
      for (const button of field.querySelectorAll('button:has(input[type=file])')) set(button, 'aria-label', label);
    }
    const results = document.getElementById('results');
    if (results) set(results, 'aria-live', 'polite');
    for (const input of document.querySelectorAll('.mm-decimal input, .mm-decimal textarea'))
      set(input, 'inputmode', 'decimal');
  };
  new MutationObserver(name).observe(document, {childList: true, subtree: true});
})();
"""


def page_script(model: PageModel, ids: Mapping[str, str]) -> str:
    """Return a script that names what Gradio leaves without a name of its own, for those who hear the page.

    Args:
        model: The model.
        ids: By field the id of its element.
    """
    names = {ids[field.name]: f"{field.name}: upload a file" for field in model.fields if field.is_file}
    told = json.dumps(names).replace("<", "\\u003c")
    return f"<script>{_SCRIPT.replace('NAMES', told)}</script>"
