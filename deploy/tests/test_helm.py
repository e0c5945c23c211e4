"""Checks the Helm chart with Helm's own library: lint, schema, and that it renders what kustomize renders."""

import json
import re
import unittest

import helm_python as helm
import kubernetes_validate
from support import ROOT, documents, read
from test_kubernetes import VERSIONS, needs_kustomize, rendered

CHART = ROOT / "deploy/helm/quintet"
GPU = {"gpu": {"enabled": True}}
GUARD = {"guard": {"secretName": "quintet-guard"}}
GPU_SCALING = {"autoscaling": {"gpuUtilization": 0.9}}
# Lists that kustomize's patches prepend to.
UNORDERED = {"volumes", "volumeMounts"}


def render(values=None, name="quintet"):
    """The objects of the chart with these values beside its own."""
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values or {})
        files = chart.render(values or {}, name=name, namespace="quintet")
    return [document for path, text in sorted(files.items()) if path.endswith(".yaml") for document in documents(text)]


def one(objects, kind):
    [found] = [document for document in objects if document["kind"] == kind]
    return found


def comparable(node, key=""):
    """An object without what Helm and kustomize do in their own ways: labels, namespace, the settings' name, order, tags."""
    if isinstance(node, dict):
        own = {"namespace", "checksum/settings", "helm.sh/chart"}
        own |= {f"app.kubernetes.io/{name}" for name in ["instance", "version", "managed-by"]}
        return {name: comparable(value, name) for name, value in node.items() if name not in own}
    if isinstance(node, list):
        items = [comparable(item) for item in node]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if key in UNORDERED else items
    if key == "image":
        return re.split("[:-]", node)[-1]
    return re.sub("^quintet-settings-.*", "quintet-settings", node) if isinstance(node, str) else node


class Helm(unittest.TestCase):
    maxDiff = None

    def test_lint(self):
        findings = helm.lint(str(CHART), strict=True)
        self.assertEqual(findings["errors"], [])
        self.assertEqual([it["error"] for it in findings["messages"]], ["icon is recommended"])

    def test_every_choice_matches_the_schemas_of_kubernetes(self):
        claim = {"models": {"existingClaim": "models"}}
        fixed = {"autoscaling": {"enabled": False}, "replicas": 3, "nodeSelector": {"zone": "a"}}
        for values in [{}, GPU, GUARD, GPU | GUARD | GPU_SCALING, claim, fixed]:
            for document in render(values):
                for version in VERSIONS:
                    kubernetes_validate.validate(document, version, strict=True)
        pod = one(render(claim), "Deployment")["spec"]["template"]["spec"]
        self.assertNotIn("initContainers", pod)
        self.assertIn({"name": "models", "persistentVolumeClaim": {"claimName": "models"}}, pod["volumes"])
        deployment = one(render(fixed), "Deployment")
        self.assertEqual(deployment["spec"]["replicas"], 3)
        self.assertNotIn("HorizontalPodAutoscaler", [document["kind"] for document in render(fixed)])

    @needs_kustomize
    def test_it_renders_what_kustomize_renders(self):
        for overlay, components, values in [
            ("cpu", [], {}),
            ("gpu", [], GPU),
            ("cpu", ["guarded"], GUARD),
            ("gpu", ["guarded", "gpu-scaling"], GPU | GUARD | GPU_SCALING),
        ]:
            ours = {(it["kind"], it["metadata"]["name"]): it for it in map(comparable, render(values))}
            theirs = {(it["kind"], it["metadata"]["name"]): it for it in map(comparable, rendered(overlay, components))}
            del theirs["Namespace", "quintet"]
            self.assertEqual(set(ours), set(theirs))
            for name, document in theirs.items():
                self.assertEqual(ours[name], document, (overlay, *name))

    def test_two_releases_select_their_own_pods(self):
        for name in ["first", "second"]:
            objects = render(name=name)
            labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
            self.assertEqual(labels["app.kubernetes.io/instance"], name)
            for service in (it for it in objects if it["kind"] == "Service"):
                self.assertEqual(service["spec"]["selector"], labels)

    def test_other_settings_are_other_pods(self):
        more = {"settings": {"QUINTET_EXIT_TIMEOUT_SECS": "90", "QUINTET_MAX_CONNECTIONS": "9"}}
        objects = render(more)
        data = one(objects, "ConfigMap")["data"]
        self.assertEqual((data["QUINTET_MAX_CONNECTIONS"], data["QUINTET_EXIT_TIMEOUT_SECS"]), ("9", "90"))
        self.assertEqual(one(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 120)
        checksums = [
            one(it, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
            for it in (objects, render(more), render())
        ]
        self.assertEqual(checksums[0], checksums[1])
        self.assertNotEqual(checksums[1], checksums[2])

    def test_values_that_nobody_reads_are_an_error(self):
        for values in [{"modle": "x"}, {"settings": {"LD_PRELOAD": "x"}}, {"autoscaling": {"gpuUtilization": 90}}]:
            with self.assertRaises(helm.HelmError):
                render(values)

    def test_the_metrics_of_the_autoscaler_are_exported(self):
        metrics = one(render(GPU | GPU_SCALING), "HorizontalPodAutoscaler")["spec"]["metrics"]
        self.assertEqual(len(metrics), 2)
        sources = read("server/src/observe/metrics/names.rs") + read("server/src/observe/device_metrics.rs")
        for metric in metrics:
            self.assertIn(f'"{metric["pods"]["metric"]["name"]}"', sources)


if __name__ == "__main__":
    unittest.main()
