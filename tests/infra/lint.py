#!/usr/bin/env python3
"""Lints the templates in infra with cfn-lint: as they are written, and as CloudFormation sees them after the SAM transform.

Any finding, also a mere hint, ends with exit code 1. Works offline and without AWS credentials.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import sam


def cfn_lint(what, path):
    """Runs cfn-lint, hints included; true if it has nothing to say."""
    # The cfn-lint beside this Python, whether or not its environment is activated.
    command = [pathlib.Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I"]
    command += ["--non-zero-exit-code", "informational", "--regions", sam.REGION, "--template", path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    good = result.returncode == 0 and not result.stdout.strip()
    print(f"{'ok    ' if good else 'FAILED'} cfn-lint, {what}")
    if not good:
        print(result.stdout + result.stderr)
    return good


def lint(template):
    """Lints one template; true if there is nothing to say."""
    source = sam.load(template)
    good = cfn_lint(f"{template.name} as written", template)
    if "Transform" not in source:
        return good
    try:
        transformed = sam.transform(source)
    except Exception as error:  # the translator's errors have no class in common, and each is a finding
        print(f"FAILED SAM transform of {template.name}\n{error}")
        return False
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "transformed.json"
        path.write_text(json.dumps(transformed, indent=2), encoding="utf-8")
        return cfn_lint(f"{template.name} after the SAM transform", path) and good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    both = [sam.TEMPLATE, sam.MSK_TEMPLATE]
    parser.add_argument("templates", nargs="*", type=pathlib.Path, default=both, help="default: all in infra")
    results = [lint(template) for template in parser.parse_args().templates]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
