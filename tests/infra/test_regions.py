"""Tests of infra/template.yaml against CloudFormation's schemas: which regions it accepts, and what an event source can be."""

import unittest

import sam
import schemas
from test_template import INVENTORY


class Regions(unittest.TestCase):
    def test_regions_without_function_urls_need_a_stack_without_a_board(self):
        template = sam.load()

        def accepted(region, access):
            return not sam.Resolver(template, {"BoardAccess": access}, region=region).broken_rules()

        for region in schemas.REGIONS:
            # The Lambda Developer Guide has no function URLs in China.
            urls = schemas.supports("AWS::Lambda::Url", region) and not region.startswith("cn-")
            self.assertEqual(urls, accepted(region, "iam"), region)
            self.assertTrue(accepted(region, "none"), region)
            # Everything else exists everywhere.
            for kind in set(INVENTORY.values()) - {"AWS::Lambda::Url"}:
                self.assertTrue(schemas.supports(kind, region), f"{kind} in {region}")

    def test_an_msk_event_source_has_no_mode_without_order(self):
        # A queue would break the guard by offset. If MSK gets such a mode, the template has to set the ordered one, as it does for
        # another Kafka.
        definitions = schemas.schema("AWS::Lambda::EventSourceMapping")["definitions"]
        self.assertEqual({"ConsumerGroupId", "SchemaRegistryConfig"}, definitions["AmazonManagedKafkaEventSourceConfig"]["properties"].keys())
        self.assertIn("ConsumptionMode", definitions["SelfManagedKafkaEventSourceConfig"]["properties"])


if __name__ == "__main__":
    unittest.main()
