"""What `--verbose` says: with what each kind of file is predicted."""

from __future__ import annotations

from unisal.predict.facts import Facts


def say_facts(kind: str, facts: Facts) -> None:
    """Print in one line with what files are predicted.

    Args:
        kind: what they are, for instance "pictures".
        facts: with what they are predicted.
    """
    preset = "" if facts.preset is None else f"preset {facts.preset}, "
    tta = f", tta {','.join(facts.tta)}" if facts.tta else ""
    heat = f", temperature {facts.temperature:.4g}" if facts.temperature != 1 else ""
    print(
        f"{kind}: run {facts.run}, weights {facts.weights}, {preset}domain {facts.domain}, "
        f"{facts.precision} with runtime {facts.runtime} on {facts.device}{tta}{heat}"
    )
