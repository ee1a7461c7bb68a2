from pathlib import Path

import pytest
import yaml
from ldmkit_data.folder import Folder

OPTIONS = Path(__file__).parents[1] / "conf" / "data" / "folder.yaml"


@pytest.fixture
def folder(tmp_path):
    """Build the source of ``tmp_path`` with the option file's keys; any share of bad files is borne."""

    def build(**changes):
        keys = yaml.safe_load(OPTIONS.read_text()) | {"path": str(tmp_path), "size": 8, "max_bad": 1.0} | changes
        return Folder(Folder.Config(**keys))

    return build
