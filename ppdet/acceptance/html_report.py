"""The report as a self-contained HTML file."""

import itertools
import json
from html import escape
from typing import Any

from ppdet.acceptance.outcomes import FAIL
from ppdet.acceptance.text_report import environment_line, kind_line, summary_line

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
td:nth-child(2) { font-weight: 600; white-space: nowrap; } td:last-child { text-align: right; white-space: nowrap; }
.pass { color: #17703a; } .fail { color: #b3201b; } .skipped { color: #777; }
pre { background: #f5f5f5; padding: .6rem; overflow-x: auto; font-size: 12px; white-space: pre-wrap; }
.title { color: #555; font-size: 13px; } details { margin: .2rem 0; } summary { cursor: pointer; color: #555; }
"""


def html_report(content: dict[str, Any]) -> str:
    """Return the HTML page of a report (the content of report.json)."""
    tables = []
    for group, rows in itertools.groupby(content["checks"], key=lambda row: row["group"]):
        tables.append(f"<h2>{escape(group)}</h2><table>{''.join(map(table_row, rows))}</table>")
    not_run = f"<p>Not run: {escape(', '.join(content['not_run']))}</p>" if content["not_run"] else ""
    status = FAIL if content["summary"][FAIL] else "pass"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ppdet acceptance kit: {escape(summary_line(content))}</title>
<style>{STYLE}</style></head><body>
<h1>ppdet acceptance kit: <span class="{status}">{escape(summary_line(content))}</span></h1>
<p>{escape(environment_line(content))}<br><code>{escape(content["command"])}</code>, {escape(content["started"])}<br>
{escape(kind_line(content))}</p>
{"".join(tables)}
{not_run}
<details><summary>The whole report as JSON</summary><pre>{escape(json.dumps(content, indent=1))}</pre></details>
</body></html>
"""


def table_row(row: dict[str, Any]) -> str:
    details = ""
    if row["status"] == FAIL:
        details = f"<p>{escape(row['advice'])}</p>"
        for text in filter(None, (row["traceback"], row["log"])):
            details += f"<pre>{escape(text)}</pre>"
    if row["numbers"]:
        figures = escape(json.dumps(row["numbers"], indent=1))
        details += f"<details><summary>figures</summary><pre>{figures}</pre></details>"
    return (
        f"<tr><td>{escape(row['name'])}<div class='title'>{escape(row['title'])}</div></td>"
        f"<td class='{row['status']}'>{row['status']}</td><td>{escape(row['detail'])}{details}</td>"
        f"<td>{row['seconds']:.1f} s</td></tr>"
    )
