"""Mark of the slow suites of this folder, and fixtures that they share."""

from pathlib import Path

import pytest
from small_project import Trial, make_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test below this folder as `system`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Small table with all jobs done, of which each test takes a copy."""
    return make_project(tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("whole"))
