"""The label sheet as a page: one response at a time, in a browser, without a network.

The page is a single file. It holds its texts as JSON and shows them as text, never as HTML. It
keeps the labels in the browser and saves them as the CSV that `esr.judges.human` reads.
"""

import hashlib
import json

import pandas as pd
from jinja2 import Environment, StrictUndefined

from esr.judges.human import MOST, SHEET


def label_page(sheet: pd.DataFrame, template: str, style: str, script: str) -> str:
    """The page of a sheet.

    Args:
        sheet: As `draw_sheet` gives it; columns row, prompt, response are used.
        template: Its HTML (resources/labels/sheet.html).
        style: Its style sheet.
        script: Its script.
    """
    rows = sheet[["row", "prompt", "response"]].to_dict("records")
    name = hashlib.sha256("".join(row["row"] for row in rows).encode()).hexdigest()[:12]
    data = {"id": name, "most": MOST, "columns": SHEET, "rows": rows}
    # `<` as an escape: no text can end the element that holds it.
    text = json.dumps(data).replace("<", "\\u003c")
    environment = Environment(undefined=StrictUndefined, autoescape=True)
    return environment.from_string(template).render(style=style, script=script, data=text)
