"""The documentation holds together: links and paths lead somewhere, the README stays short, and the architecture page names
properties that the model checks.

Run: python -m unittest discover tests/infra
"""

import pathlib
import re
import tomllib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
MODEL = ROOT / "tests" / "model.rs"

README_LINES = 170
FOLDERS = "functions|crates|tools|infra|events|tests|bench|docs"


def prose(text):
    """The page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def broken_links(page, text):
    """The links of a page to files or headings that do not exist. Links to other sites are not followed."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            broken.append(link)
        elif anchor:
            of_target = text if target == page else target.read_text(encoding="utf-8")
            if anchor not in anchors(of_target):
                broken.append(link)
    return broken


def missing_paths(text):
    """The paths of this repository that a page names in code style and that do not exist."""
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", prose(text))
    return [path for path in named if not (ROOT / path).exists()]


def unknown_properties(text, model):
    """The properties in the table of invariants that the model does not check."""
    table = re.search(r"^\| # .*property of the model.*\n\|[-|]*\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    named = [row.split("|")[4].strip() for row in table.splitlines()]
    if len(named) < 5:
        raise AssertionError(f"the table of invariants has {len(named)} rows")
    return [name for name in named if f'"{name}"' not in model]


class Documentation(unittest.TestCase):
    def test_links_lead_to_files_and_headings(self):
        for page in PAGES:
            with self.subTest(page.relative_to(ROOT)):
                self.assertEqual([], broken_links(page, page.read_text(encoding="utf-8")))

    def test_named_paths_exist(self):
        for page in PAGES:
            with self.subTest(page.relative_to(ROOT)):
                self.assertEqual([], missing_paths(page.read_text(encoding="utf-8")))

    def test_the_documented_tools_are_those_of_the_rehearsal(self):
        pins = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("requirements*.txt"))
        for page in README, OPERATIONS, ROOT / "infra" / "pipeline" / "deploy.yml":
            named = re.findall(r"(?:aws-sam-cli|cargo-lambda)==[0-9.]+[0-9]", page.read_text(encoding="utf-8"))
            self.assertTrue(named, page.name)
            self.assertEqual([], [pin for pin in named if not re.search(rf"^{re.escape(pin)}\b", pins, re.MULTILINE)], page.name)

    def test_each_configuration_of_sam_deploys_a_stack_of_its_own(self):
        config = tomllib.loads((ROOT / "infra" / "samconfig.toml").read_text(encoding="utf-8"))
        stacks = {name: section["global"]["parameters"]["stack_name"] for name, section in config.items() if name != "version"}
        self.assertEqual({"default", "staging", "production", "msk", "seed"}, stacks.keys())
        self.assertEqual(len(stacks), len(set(stacks.values())))
        for name, stack in stacks.items():
            self.assertEqual(stack, config[name]["deploy"]["parameters"]["s3_prefix"], name)
            # The example policy of the deployer covers these names.
            self.assertTrue(stack.startswith("hot-products"), name)

    def test_the_decisions_are_listed(self):
        folder = ROOT / "docs" / "decisions"
        records = sorted(path.name for path in folder.glob("[0-9]*.md"))
        listed = re.findall(r"\]\(([0-9][^)]*\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
        self.assertEqual(records, listed)

    def test_the_readme_is_short(self):
        self.assertLessEqual(len(README.read_text(encoding="utf-8").splitlines()), README_LINES)

    def test_the_invariants_name_properties_of_the_model(self):
        text, model = ARCHITECTURE.read_text(encoding="utf-8"), MODEL.read_text(encoding="utf-8")
        self.assertEqual([], unknown_properties(text, model))


class ChecksBite(unittest.TestCase):
    def test_broken_links_are_noticed(self):
        page = ROOT / "README.md"
        text = "# A page\n[a](docs/cost.md#bills) [b](docs/nothing.md) [c](docs/cost.md#nothing) [d](#a-page) [e](#b)\n"
        self.assertEqual(["docs/nothing.md", "docs/cost.md#nothing", "#b"], broken_links(page, text))

    def test_missing_paths_are_noticed(self):
        self.assertEqual(["tests/nothing.rs"], missing_paths("`tests/model.rs` `tests/nothing.rs`\n```\n`docs/no`\n```\n"))

    def test_unknown_properties_are_noticed(self):
        text, model = ARCHITECTURE.read_text(encoding="utf-8"), MODEL.read_text(encoding="utf-8")
        renamed = model.replace('"no click is counted twice"', '"another"')
        self.assertIn("no click is counted twice", unknown_properties(text, renamed))


if __name__ == "__main__":
    unittest.main()
