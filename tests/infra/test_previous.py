"""The build of the previous release: tests/previous.py. Run: python -m unittest discover tests/infra"""

import importlib.util
import pathlib
import re
import tomllib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("previous", ROOT / "tests" / "previous.py")
previous = importlib.util.module_from_spec(spec)
spec.loader.exec_module(previous)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Previous(unittest.TestCase):
    def test_the_file_names_one_commit(self):
        self.assertRegex(previous.named_commit((ROOT / "tests" / "previous-release").read_text()), r"^[0-9a-f]{40}$")
        self.assertEqual(COMMIT, previous.named_commit(f"# A comment.\n{COMMIT}\n"))
        for text in "# Only a comment.\n", f"{COMMIT}\n{COMMIT}\n", f"{COMMIT[:7]}\n", "v0.1.0\n":
            with self.subTest(text), self.assertRaisesRegex(SystemExit, "must name one commit"):
                previous.named_commit(text)

    def test_the_packages_of_the_workspace_get_a_version_of_their_own_and_no_other_package_does(self):
        manifest, lock = (ROOT / "Cargo.toml").read_text(), (ROOT / "Cargo.lock").read_text()
        new_manifest, new_lock = previous.rename(manifest, lock, COMMIT)
        version = tomllib.loads(manifest)["workspace"]["package"]["version"]
        self.assertEqual(f"{version}-g0123456789ab", tomllib.loads(new_manifest)["workspace"]["package"]["version"])
        before, after = tomllib.loads(lock)["package"], tomllib.loads(new_lock)["package"]
        for old, new in zip(before, after, strict=True):
            expected = old if "source" in old else old | {"version": f"{old['version']}-g0123456789ab"}
            self.assertEqual(expected, new)
        members = len(tomllib.loads(manifest)["workspace"]["members"])
        self.assertEqual(members, len(re.findall("-g0123456789ab", new_lock)))


if __name__ == "__main__":
    unittest.main()
