"""Tests of infra/cdn.yaml: CloudFront signs its requests to the board, and a firewall limits what it lets through."""

import unittest

import sam


def resources(change=None, region="us-east-1", **overrides):
    template = sam.load(sam.CDN_TEMPLATE)
    if change:
        change(template["Resources"])
    return {name: r["Properties"] for name, r in sam.Resolver(template, overrides, "cdn", region).resources().items()}


def check_access(test, found):
    control = found["AccessControl"]["OriginAccessControlConfig"]
    test.assertEqual(("lambda", "always", "sigv4"), tuple(control[k] for k in ("OriginAccessControlOriginType", "SigningBehavior", "SigningProtocol")))
    (origin,) = found["Distribution"]["DistributionConfig"]["Origins"]
    test.assertEqual("abc123.lambda-url.eu-central-1.on.aws", origin["DomainName"])
    test.assertEqual("id-of-AccessControl", origin["OriginAccessControlId"])
    test.assertEqual("https-only", origin["CustomOriginConfig"]["OriginProtocolPolicy"])


def check_limits(test, found):
    config = found["Distribution"]["DistributionConfig"]
    test.assertIn(":global/webacl/", config["WebACLId"])
    (rule,) = found["Firewall"]["Rules"]
    limit = rule["Statement"]["RateBasedStatement"]
    test.assertEqual(({"Block": {}}, "IP", "1000", 300), (rule["Action"], limit["AggregateKeyType"], limit["Limit"], limit["EvaluationWindowSec"]))
    behavior = config["DefaultCacheBehavior"]
    test.assertEqual((["GET", "HEAD"], "redirect-to-https"), (behavior["AllowedMethods"], behavior["ViewerProtocolPolicy"]))
    policy = found["CachePolicy"]["CachePolicyConfig"]
    # Private answers would not be kept at all.
    test.assertGreater(policy["MinTTL"], 0)
    key = policy["ParametersInCacheKeyAndForwardedToOrigin"]
    test.assertEqual(("none", "all"), (key["HeadersConfig"]["HeaderBehavior"], key["QueryStringsConfig"]["QueryStringBehavior"]))


class Cdn(unittest.TestCase):
    def test_passes_all_checks(self):
        check_access(self, resources())
        check_limits(self, resources())

    def test_is_refused_outside_virginia(self):
        template = sam.load(sam.CDN_TEMPLATE)
        self.assertEqual([], sam.Resolver(template, region="us-east-1").broken_rules())
        self.assertEqual(1, len(sam.Resolver(template, region="eu-central-1").broken_rules()))

    def test_the_other_template_takes_the_distribution(self):
        outputs = sam.Resolver(sam.load(sam.CDN_TEMPLATE), stack="cdn", region="us-east-1").outputs()
        arn = outputs["DistributionArn"]["Value"].replace("id-of-Distribution", "E2EXAMPLE")
        self.assertRegex(arn, sam.load()["Parameters"]["BoardDistributionArn"]["AllowedPattern"])

    def test_each_change_fails_its_check(self):
        for name, check, change in [
            ("requests without a signature", check_access, lambda r: r["AccessControl"]["Properties"]["OriginAccessControlConfig"].update(SigningBehavior="never")),
            ("no access control", check_access, lambda r: r["Distribution"]["Properties"]["DistributionConfig"]["Origins"][0].update(OriginAccessControlId="")),
            ("no firewall", check_limits, lambda r: r["Distribution"]["Properties"]["DistributionConfig"].update(WebACLId="")),
            ("a rule that only counts", check_limits, lambda r: r["Firewall"]["Properties"]["Rules"][0].update(Action={"Count": {}})),
            ("answers that are not kept", check_limits, lambda r: r["CachePolicy"]["Properties"]["CachePolicyConfig"].update(MinTTL=0)),
        ]:  # fmt: skip
            with self.subTest(name), self.assertRaises(AssertionError):
                check(self, resources(change))


if __name__ == "__main__":
    unittest.main()
