"""The code in the documentation runs, and the reference is what the docstrings say."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest
import torch

import lirpa_verify

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("page", "least"), [("docs/library.md", 14), ("docs/operators.md", 3), ("README.md", 2)])
def test_code_runs(page, least, monkeypatch):
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    text = (ROOT / page).read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= least
    module = types.ModuleType("documentation")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block.group(1), str(ROOT / page), "exec")  # errors name the page's line
        exec(code, vars(module))


def test_reference_is_up_to_date():
    path = DOCS / "make_api.py"
    spec = importlib.util.spec_from_file_location("make_api", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "api.md").read_text() == module.reference(), "run: python docs/make_api.py"
    listed = {name for names in module.SECTIONS.values() for name in names}
    assert listed == set(lirpa_verify.__all__) - {"__version__", "Verdict"}


def test_every_public_name_exists_and_is_documented():
    for name in lirpa_verify.__all__:
        value = getattr(lirpa_verify, name)
        assert name == "__version__" or (value.__doc__ or "").strip() or name in ("Progress", "Verdict"), name
