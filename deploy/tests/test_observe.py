"""Checks the files for Prometheus and Grafana: queries parse, and use metrics that the server exports."""

import json
import re
import unittest

import promql_parser
import yaml
from support import ROOT, from_package, read, run

PROMTOOL = from_package("prometheus", "promtool")
# Metrics of Prometheus itself.
BUILT_IN = {"up"}


def exported():
    """The names of the metrics in the server's sources."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "server/src").rglob("*.rs")]
    return set(re.findall(r'"((?:nv|quintet)_[a-z_]+)"', "\n".join(sources))) | BUILT_IN


def metrics(query):
    """The metrics that a PromQL query uses; Grafana's variables are replaced."""
    query = query.replace("$__rate_interval", "1m").replace("$service", ".*").replace("$model", ".*")
    names = set()

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            # A series of a histogram.
            names.add(re.sub("_(bucket|sum)$", "", node.name))

    promql_parser.walk(promql_parser.parse(query), visit)
    return names


class Observe(unittest.TestCase):
    def test_the_dashboard_uses_exported_metrics(self):
        dashboard = json.loads(read("deploy/grafana/dashboards/quintet.json"))
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        self.assertTrue(queries)
        for query in queries:
            used = metrics(query)
            self.assertTrue(used, query)
            self.assertLessEqual(used, exported(), query)
        for variable in dashboard["templating"]["list"]:
            [name] = re.findall(r"label_values\((\w+)", variable["query"]["query"])
            self.assertIn(name, exported())
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))

    def test_the_dashboards_data_source_is_provisioned(self):
        [source] = yaml.safe_load(read("deploy/grafana/provisioning/datasources/prometheus.yml"))["datasources"]
        used = set(re.findall(r'"uid": "(\w+)"', read("deploy/grafana/dashboards/quintet.json"))) - {"quintet"}
        self.assertEqual(used, {source["uid"]})

    def test_the_alerts_use_exported_metrics(self):
        for group in yaml.safe_load(read("deploy/prometheus/rules.yml"))["groups"]:
            for rule in group["rules"]:
                self.assertLessEqual(metrics(rule["expr"]), exported(), rule["alert"])

    def test_the_scrape_targets_are_in_the_compose_file(self):
        compose = read("docker-compose.yml")
        for job in yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["scrape_configs"]:
            for target in (target for static in job["static_configs"] for target in static["targets"]):
                host, port = target.split(":")
                self.assertRegex(compose, rf"\n  {host}:\n")
                self.assertRegex(compose, rf":{port}\n")

    @unittest.skipUnless(PROMTOOL, "no promtool, neither installed nor as a package of the distribution")
    def test_promtool_accepts_the_configuration(self):
        run(PROMTOOL, "check", "config", ROOT / "deploy/prometheus/prometheus.yml")


if __name__ == "__main__":
    unittest.main()
