"""What the engine says about its priors, as a person reads it. No bpy."""

from __future__ import annotations

from typing import Any


def card_lines(prior: dict[str, Any]) -> list[tuple[str, str]]:
    """(heading, text) of a prior's card, as a person reads it."""
    facts = prior.get("about") if isinstance(prior.get("about"), dict) else {}
    lines: list[tuple[str, str]] = []
    counts = facts.get("class_counts")
    if isinstance(counts, dict) and counts:
        ordered = sorted(counts.items(), key=lambda item: -_number(item[1]))
        lines.append(("Classes", ", ".join(f"{name} {count}" for name, count in ordered)))
    elif prior.get("classes"):
        lines.append(("Classes", ", ".join(map(str, prior["classes"]))))
    data = facts.get("data")
    for source, entry in data.items() if isinstance(data, dict) else ():
        licences = entry.get("licences") if isinstance(entry, dict) else None
        named = ", ".join(f"{name or 'unknown'} ({count})" for name, count in licences.items()) if licences else ""
        shapes = entry.get("shapes", "?") if isinstance(entry, dict) else "?"
        lines.append(("Data", f"{source}: {shapes} shapes" + (f"; {named}" if named else "")))
    training = facts.get("training")
    if isinstance(training, dict):
        text = f"{training.get('steps', '?')} steps"
        if _number(training.get("seconds")):
            text += f" in {_number(training['seconds']) / 60:.1f} min"
        text += f" on {training['device']}" if training.get("device") else ""
        text += f", {training['date']}" if training.get("date") else ""
        lines.append(("Training", text))
        started = training.get("started_from")
        if isinstance(started, dict) and started.get("prior"):
            lines.append(("Started from", str(started["prior"])))
    quality = facts.get("quality")
    if isinstance(quality, dict):
        if quality.get("protocol"):
            lines.append(("Quality", str(quality["protocol"])))
        for key, values in quality.items():
            if isinstance(values, dict) and values and all(isinstance(v, int | float) for v in values.values()):
                shown = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in _rounded(values).items())
                lines.append(("", f"{key.replace('_', ' ').capitalize()}: {shown}"))
    elif facts:
        lines.append(("Quality", "not measured"))
    if facts.get("licence"):
        lines.append(("Licence", str(facts["licence"])))
    size = _number(prior.get("bytes"))
    if size:
        lines.append(("File", f"{size / 2**20:.1f} MB, version {prior.get('version', '?')}"))
    return lines


def _rounded(values: dict[str, Any]) -> dict[str, float]:
    return {str(name): round(float(value), 3) for name, value in values.items()}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
