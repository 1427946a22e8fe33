#!/usr/bin/env python3
"""Lints the templates in infra with cfn-lint: as written, and as CloudFormation sees them after the SAM transform.

The exit code is 1 for any finding, including hints. Needs neither a network nor AWS credentials.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import sam


def cfn_lint(what, path, *arguments):
    """Runs cfn-lint including hints; true if there are no findings."""
    # The cfn-lint of this Python's environment, even if the environment is not activated.
    command = [pathlib.Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I"]
    command += ["--non-zero-exit-code", "informational", "--regions", sam.REGION, "--template", path, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    good = result.returncode == 0 and not result.stdout.strip()
    print(f"{'ok    ' if good else 'FAILED'} cfn-lint, {what}")
    if not good:
        print(result.stdout + result.stderr)
    return good


def lint(template):
    """Lints one template; true if there are no findings."""
    source = sam.load(template)
    good = cfn_lint(f"{template.name} as written", template)
    if "Transform" not in source:
        return good
    try:
        transformed = sam.transform(source)
    except Exception as error:  # the translator's errors have no common class; each is a finding
        print(f"FAILED SAM transform of {template.name}\n{error}")
        return False
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "transformed.json"
        path.write_text(json.dumps(transformed, indent=2), encoding="utf-8")
        # The transform replaces some parameters by their values. The other run finds parameters that are not used.
        return cfn_lint(f"{template.name} after the SAM transform", path, "--ignore-checks", "W2001") and good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*sorted(sam.INFRA.glob("*.yaml")), *sorted(sam.INFRA.glob("*/*.yaml"))]
    parser.add_argument("templates", nargs="*", type=pathlib.Path, default=every, help="default: all in infra")
    results = [lint(template) for template in parser.parse_args().templates]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
