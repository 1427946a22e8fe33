#!/usr/bin/env python3
"""Lints infra/template.yaml with cfn-lint: as it is written, and as CloudFormation sees it after the SAM transform.

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("template", nargs="?", type=pathlib.Path, default=sam.TEMPLATE, help="default: infra/template.yaml")
    template = parser.parse_args().template

    good = cfn_lint("as written", template)
    try:
        transformed = sam.transform(sam.load(template))
    except Exception as error:  # the translator's errors have no class in common, and each is a finding
        print(f"FAILED SAM transform\n{error}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "transformed.json"
        path.write_text(json.dumps(transformed, indent=2), encoding="utf-8")
        good &= cfn_lint("after the SAM transform", path)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
