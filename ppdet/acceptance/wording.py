"""The report as text of an issue, and the lines that it shares with the page and the screen."""

from ppdet.acceptance.outcomes import FAIL, PASS, SKIPPED


def markdown(content: dict) -> str:
    """The report as text of an issue: the table, then what each failure says."""
    lines = [
        f"### Acceptance kit: {summary_line(content)}",
        "",
        f"`{content['command']}`, {content['started']}, {environment_line(content)}",
        "",
        kind_line(content),
        "",
        "| check | result | | seconds |",
        "|---|---|---|---|",
    ]
    for row in content["checks"]:
        detail = row["detail"].replace("|", "\\|")
        status = f"**{row['status'].upper()}**" if row["status"] == FAIL else row["status"]
        lines.append(f"| {row['name']} | {status} | {detail} | {row['seconds']:.1f} |")
    if content["not_run"]:
        lines += ["", f"Not run: {', '.join(content['not_run'])}"]
    for row in (row for row in content["checks"] if row["status"] == FAIL):
        lines += ["", f"#### {row['name']}: {row['title']}", "", row["detail"], "", row["advice"]]
        for text in filter(None, (row["traceback"], row["log"])):
            lines += ["", "```", text.replace("```", "'''").rstrip(), "```"]
    return "\n".join(lines) + "\n"


def summary_line(content: dict) -> str:
    summary = content["summary"]
    text = f"{summary[PASS]} passed, {summary[FAIL]} failed, {summary[SKIPPED]} skipped"
    text += " in a quick run" if content["quick"] else ""
    return text if content["finished"] else f"{text}, {len(content['not_run'])} not run"


def kind_line(content: dict) -> str:
    """Whether the run was a full one, which alone says that the device is fast enough."""
    if content["quick"]:
        return "A quick run: fewer steps and smaller inputs; how fast steps and reader are is not judged."
    return "A full run."


def environment_line(content: dict) -> str:
    facts = content["facts"]
    capability = facts["capability"]
    compute = f" of capability {capability[0]}.{capability[1]}" if capability else ""
    return (
        f"{facts['cards']} x {facts['device']}{compute}, paddle {facts['paddle']}, ppdet {content['ppdet']} "
        f"({content['commit'] or 'no git'}), Python {content['python']}, {content['system']}"
    )
