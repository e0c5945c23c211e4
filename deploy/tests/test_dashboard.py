"""Runs the dashboard's and the alerts' queries on a real Prometheus, which scrapes a real suite as the configuration says."""

import contextlib
import json
import math
import re
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml
from suite import send, suite, wait
from support import ROOT, from_package, read

PROMETHEUS = from_package("prometheus", "prometheus")
SERVICES = {"jpeg", "onnx", "trt"}
DASHBOARD = json.loads(read("deploy/grafana/dashboards/quintet.json"))
# Scrapes come every second instead of every five.
VARIABLES = {"$__rate_interval": "10s", "$service": "jpeg|onnx|trt", "$model": ".+"}


class Prometheus:
    """A Prometheus that scrapes a suite; its configuration is the project's, with other targets and a shorter interval."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/api/v1"

    @classmethod
    @contextlib.contextmanager
    def scraping(cls, ports):
        targets = {"jpeg:8002": ports["jpeg"], "onnx:8012": ports["onnx-metrics"], "trt:8022": ports["trt-metrics"]}
        configuration = read("deploy/prometheus/prometheus.yml").replace("_interval: 5s", "_interval: 1s")
        for target, port in targets.items():
            configuration = configuration.replace(f'"{target}"', f'"127.0.0.1:{port}"')
        configuration = yaml.safe_load(configuration.replace("15s", "1s"))
        # Nothing runs Triton here.
        configuration["scrape_configs"] = [it for it in configuration["scrape_configs"] if it["job_name"] == "quintet"]
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
            free.close()
            Path(folder, "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
            Path(folder, "rules.yml").write_text(read("deploy/prometheus/rules.yml"), encoding="utf-8")
            address = f"--web.listen-address=127.0.0.1:{port}"
            command = [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", address]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                try:
                    yield cls(port)
                finally:
                    process.terminate()

    def get(self, path, **parameters):
        try:
            with urllib.request.urlopen(f"{self.url}/{path}?{urllib.parse.urlencode(parameters)}") as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        except urllib.error.URLError:
            # It is still starting.
            return {"result": []}

    def query(self, expression):
        """The series of an expression with Grafana's variables, as (labels, value)."""
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        result = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]


@unittest.skipUnless(PROMETHEUS, "no Prometheus, neither installed nor as a package of the distribution")
class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.ports = cls.enterClassContext(suite())
        cls.prometheus = cls.enterClassContext(Prometheus.scraping(cls.ports))

    def shown(self, expression):
        """The series of an expression as soon as each service has a number."""

        def numbers():
            send(self.ports)
            series = self.prometheus.query(expression)
            found = {labels["service"] for labels, value in series if math.isfinite(value)}
            return series if found == SERVICES else None

        return wait(numbers, 60)

    def test_every_panel_shows_every_service(self):
        for panel in DASHBOARD["panels"]:
            # A row has none, and its panels are beside it.
            for target in panel.get("targets", []):
                with self.subTest(panel=panel["title"], query=target["refId"]):
                    series = self.shown(target["expr"])
                    legends = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                    names = [tuple(labels.get(name) for name in sorted(legends)) for labels, _ in series]
                    self.assertNotIn(None, {part for name in names for part in name}, "a legend names a label that is not there")
                    if legends:
                        self.assertEqual(len(set(names)), len(names), "two lines have one name")
                    if panel["type"] == "table":
                        hidden = panel["transformations"][0]["options"]["excludeByName"]
                        self.assertLessEqual({name for name in hidden if name not in ("Time", "Value")}, set(series[0][0]))

    def test_variables_list_the_services_and_models(self):
        self.shown("nv_inference_count")
        values = {}
        for variable in DASHBOARD["templating"]["list"]:
            metric, label = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["query"]["query"]).groups()
            values[variable["name"]] = set(self.prometheus.get(f"label/{label}/values", **{"match[]": metric}))
        self.assertEqual(values, {"service": SERVICES, "model": {"resnet18"}})

    def test_alerts_are_evaluated_and_the_suite_raises_none_of_the_urgent_ones(self):
        def evaluated():
            groups = self.prometheus.get("rules").get("groups", [])
            rules = [rule for group in groups for rule in group["rules"]]
            return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

        rules = wait(evaluated, 60)
        expected = [rule["alert"] for group in yaml.safe_load(read("deploy/prometheus/rules.yml"))["groups"] for rule in group["rules"]]
        self.assertEqual([rule["name"] for rule in rules], expected)
        self.assertEqual({rule["health"] for rule in rules}, {"ok"})
        firing = {alert["labels"]["alertname"] for rule in rules for alert in rule["alerts"] if alert["state"] == "firing"}
        self.assertLessEqual(firing, {"RunsOnTheCpu"})


if __name__ == "__main__":
    unittest.main()
