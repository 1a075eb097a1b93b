"""Every word that the page shows: tooltips, help pages, and the two languages, none missing, none stale."""

from __future__ import annotations

import re

import pytest

from talkstream.devtools.host import ROOT
from talkstream.devtools.schemas import inputs_of, own_nodes, read_json, texts_of

LANGUAGES = ["en", "zh"]
HELP = ROOT / "web" / "docs"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SETTING = re.compile(r"^\s+id: '(TalkStream\.[\w.]+)'", re.MULTILINE)
CATEGORY = re.compile(r"^\s+category: \[([^\]]+)\]", re.MULTILINE)


@pytest.fixture(scope="module")
def nodes(object_info):
    return own_nodes(object_info)


@pytest.fixture(scope="module")
def page() -> str:
    """The module that declares the settings."""
    return (ROOT / "web" / "lib" / "settings.js").read_text("utf-8")


def locale(language: str, name: str) -> dict:
    return read_json(ROOT / "locales" / language / f"{name}.json")


def leaves(tree, path=()) -> dict:
    """Path -> text of every text in a tree."""
    if isinstance(tree, str):
        return {path: tree}
    return {key: text for name, below in tree.items() for key, text in leaves(below, (*path, name)).items()}


@pytest.mark.host
def test_every_input_and_output_has_a_tooltip(nodes):
    empty = [path for path, text in leaves({n: texts_of(d) for n, d in nodes.items()}).items() if not text]
    assert empty == []


@pytest.mark.host
def test_english_is_what_the_nodes_say(nodes):
    """After a change: python dev.py run -m talkstream.devtools.schemas"""
    assert locale("en", "nodeDefs") == {name: texts_of(definition) for name, definition in nodes.items()}


@pytest.mark.parametrize("name", ["nodeDefs", "main", "settings"])
def test_chinese_has_the_same_texts(name):
    english, chinese = leaves(locale("en", name)), leaves(locale("zh", name))
    assert sorted(english.keys() - chinese.keys()) == [], "missing"
    assert sorted(chinese.keys() - english.keys()) == [], "stale"
    sentences = [path for path in chinese if path[-1] in ("tooltip", "description", "display_name")]
    assert [path for path in sentences if not CHINESE.search(chinese[path])] == []


@pytest.mark.host
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_category_has_a_name(language, nodes):
    categories = {part for definition in nodes.values() for part in definition["category"].split("/")}
    assert locale(language, "main")["nodeCategories"].keys() == categories


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_setting_has_its_texts(language, page):
    settings = {name.replace(".", "_") for name in SETTING.findall(page)}
    assert len(settings) == page.count("defaultValue:")
    assert locale(language, "settings").keys() == settings
    groups = [re.findall(r"'([^']+)'", found)[:2] for found in CATEGORY.findall(page)]
    assert locale(language, "main")["settingsCategories"].keys() == {name for pair in groups for name in pair}


def test_settings_say_and_default_to_the_same_everywhere(page):
    """The page's English is the locale's, and its numbers are those that running nodes fall back on."""
    assert [text for text in leaves(locale("en", "settings")).values() if text not in page] == []
    source = (ROOT / "nodes" / "host" / "settings.py").read_text("utf-8")
    ids = dict(re.findall(r'^(\w+) = "(TalkStream\.[\w.]+)"', source, re.MULTILINE))
    read = {ids[name]: float(number) for name, number in re.findall(r"(\w+_GB): ([\d.]+)", source)}
    shown = {
        name: float(number)
        for name, number in re.findall(r"id: '([\w.]+)'[^{]*?attrs: [^}]*\},\s+defaultValue: ([\d.]+)", page)
    }
    assert shown == read
    assert len(read) == len(ids) == 2


@pytest.mark.host
def test_every_node_has_a_help_page(nodes):
    """Titled with the node's name, naming every input; no page without a node."""
    pages = {path.stem: path.read_text("utf-8") for path in HELP.glob("*.md")}
    assert pages.keys() == nodes.keys()
    for name, definition in nodes.items():
        assert pages[name].startswith(f"# {definition['display_name']}\n")
        told = set(re.findall(r"\w+", pages[name]))
        assert inputs_of(definition).keys() - told == set(), name


@pytest.mark.host
def test_the_host_serves_both_languages(host_server):
    served = host_server.json("/i18n")
    for language in LANGUAGES:
        for node, texts in locale(language, "nodeDefs").items():
            assert served[language]["nodeDefs"][node] == texts


def test_the_badge_names_the_version():
    badge = re.search(r"label: 'TalkStream ([^']+)'", (ROOT / "web" / "talkstream.js").read_text("utf-8"))
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert badge[1] == version[1]
