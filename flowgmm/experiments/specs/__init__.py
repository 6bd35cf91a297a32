"""Specs, paths of inputs and reasons not to run, one module per rules file of the workflow."""

from flowgmm.experiments.project import Project, once
from flowgmm.experiments.provenance import code_hash


@once
def rule_hash(project: Project, script: str, *modules: str) -> str:
    """Hash of the code behind a rule: its script, what that imports, and these modules."""
    return code_hash(project.repository / "scripts" / f"{script}.py", *modules)
