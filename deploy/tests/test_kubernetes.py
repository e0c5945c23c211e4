"""Checks the Kubernetes and KServe manifests against Kubernetes' schemas, and rules that the schemas do not have."""

import shutil
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate
from support import ROOT, documents, on_path, read, run

# The oldest supported version, the first with preStop's `sleep` enabled by default, and the newest that
# kubernetes_validate has.
VERSIONS = ["1.30", "1.37"]
BASE = ROOT / "deploy/kubernetes/base"
OVERLAYS = ["cpu", "gpu"]


needs_kustomize = unittest.skipUnless(on_path("kubectl") or on_path("kustomize"), "neither kubectl nor kustomize on PATH")


def rendered(overlay, components=()):
    """The objects of an overlay with these components."""
    kubectl, kustomize = on_path("kubectl"), on_path("kustomize")
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(ROOT / "deploy/kubernetes", f"{root}/kubernetes")
        folder = Path(root, "kubernetes/overlays", overlay)
        if components:
            paths = ", ".join(f"../../components/{component}" for component in components)
            with Path(folder, "kustomization.yaml").open("a", encoding="utf-8") as file:
                file.write(f"components: [{paths}]\n")
        return documents(run(kubectl, "kustomize", folder) if kubectl else run(kustomize, "build", folder))


def max_shutdown_seconds(pod, timeout):
    """The maximum duration of preStop and draining."""
    return pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] + timeout


class Kubernetes(unittest.TestCase):
    def test_the_base_is_valid(self):
        for path in sorted(BASE.glob("*.yaml")):
            if path.name == "kustomization.yaml":
                continue
            for document in documents(path.read_text(encoding="utf-8")):
                if document["kind"] == "Deployment":
                    # kustomize adds the labels.
                    document["spec"]["selector"] = {}
                for version in VERSIONS:
                    kubernetes_validate.validate(document, version, strict=True)

    def test_an_unknown_field_is_an_error(self):
        [deployment] = documents((BASE / "deployment.yaml").read_text(encoding="utf-8"))
        deployment["spec"]["selector"] = {}
        deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)

    @needs_kustomize
    def test_the_overlays_are_valid_and_consistent(self):
        for overlay in OVERLAYS:
            objects = rendered(overlay)
            for document in objects:
                for version in VERSIONS:
                    kubernetes_validate.validate(document, version, strict=True)
                if document["kind"] != "Namespace":
                    self.assertEqual(document["metadata"]["namespace"], "quintet", overlay)
            kinds = {document["kind"]: document for document in objects}
            pod = kinds["Deployment"]["spec"]["template"]
            settings = kinds["ConfigMap"]["data"]
            self.check_pod(pod["spec"], int(settings["QUINTET_EXIT_TIMEOUT_SECS"]))
            for service in (document for document in objects if document["kind"] == "Service"):
                selector = service["spec"]["selector"].items()
                self.assertLessEqual(selector, pod["metadata"]["labels"].items(), overlay)
                named = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
                self.assertLessEqual({port["targetPort"] for port in service["spec"]["ports"]}, named)
            headless = [d for d in objects if d["kind"] == "Service" and d["spec"].get("clusterIP") == "None"]
            self.assertEqual([port["port"] for service in headless for port in service["spec"]["ports"]], [8011])
            for container in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
                source = container["envFrom"][0]["configMapRef"]["name"]
                self.assertEqual(source, kinds["ConfigMap"]["metadata"]["name"], overlay)
                self.assertTrue(container["image"].endswith(f":{overlay}"))
            self.assertEqual(kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"])
            self.assertEqual("tensorrt,cuda" if overlay == "gpu" else "cpu", settings["QUINTET_ONNX_PROVIDERS"])
            metric = kinds["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
            self.assertIn(f'"{metric}"', read("server/src/observe/metrics/names.rs"))

    def check_pod(self, pod, timeout):
        self.assertFalse(pod["enableServiceLinks"])
        self.assertGreater(pod["terminationGracePeriodSeconds"], max_shutdown_seconds(pod, timeout))
        server = pod["containers"][0]
        paths = {name: server[f"{name}Probe"]["httpGet"]["path"] for name in ["startup", "readiness", "liveness"]}
        ready = "/v2/health/ready"
        self.assertEqual(paths, {"startup": ready, "readiness": ready, "liveness": "/v2/health/live"})
        for container in pod["containers"] + pod.get("initContainers", []):
            self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"], container["name"])


class Guarded(unittest.TestCase):
    """The component with tokens and TLS."""

    def test_its_settings_name_files_of_the_mounted_secret(self):
        folder = ROOT / "deploy/kubernetes/components/guarded"
        [component] = documents((folder / "kustomization.yaml").read_text(encoding="utf-8"))
        [settings] = component["configMapGenerator"]
        [deployment] = documents((folder / "deployment.yaml").read_text(encoding="utf-8"))
        pod = deployment["spec"]["template"]["spec"]
        [server] = pod["containers"]
        [mount] = server["volumeMounts"]
        [volume] = pod["volumes"]
        self.assertEqual((mount["name"], mount["readOnly"]), (volume["name"], True))
        self.assertEqual(volume["secret"]["defaultMode"], 0o440)
        files = [literal.split("=")[1] for literal in settings["literals"] if literal.endswith(("tokens", ".crt", ".key"))]
        self.assertEqual({file.rsplit("/", 1)[0] for file in files}, {mount["mountPath"]})
        [base] = documents((BASE / "deployment.yaml").read_text(encoding="utf-8"))
        [unguarded] = base["spec"]["template"]["spec"]["containers"]
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
            self.assertEqual(server[probe]["httpGet"], unguarded[probe]["httpGet"] | {"scheme": "HTTPS"})

    @needs_kustomize
    def test_it_fits_the_overlays(self):
        for overlay in OVERLAYS:
            for document in rendered(overlay, ["guarded"]):
                for version in VERSIONS:
                    kubernetes_validate.validate(document, version, strict=True)


class KServe(unittest.TestCase):
    """Checks the required fields of the custom resources; no package has their schemas."""

    def test_the_runtime(self):
        [runtime] = documents(read("deploy/kserve/servingruntime.yaml"))
        self.assertEqual((runtime["apiVersion"], runtime["kind"]), ("serving.kserve.io/v1alpha1", "ServingRuntime"))
        spec = runtime["spec"]
        self.assertTrue(all("name" in form for form in spec["supportedModelFormats"]))
        self.assertLessEqual(set(spec["protocolVersions"]), {"v1", "v2", "grpc-v1", "grpc-v2"})
        [container] = spec["containers"]
        self.assertEqual(container["name"], "kserve-container")
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        self.assertEqual(environment["QUINTET_MODEL_REPOSITORY"], "/mnt/models")
        port = int(environment["QUINTET_ONNX_HTTP_PORT"])
        self.assertEqual([declared["containerPort"] for declared in container["ports"]], [port])
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
            self.assertEqual(container[probe]["httpGet"]["port"], port)
        # The container is an ordinary one, so the schema of a pod applies.
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)

    def test_the_service(self):
        [service] = documents(read("deploy/kserve/inferenceservice.yaml"))
        [runtime] = documents(read("deploy/kserve/servingruntime.yaml"))
        self.assertEqual((service["apiVersion"], service["kind"]), ("serving.kserve.io/v1beta1", "InferenceService"))
        predictor = service["spec"]["predictor"]
        self.assertFalse(predictor["enableServiceLinks"])
        self.assertGreater(predictor["terminationGracePeriodSeconds"], max_shutdown_seconds(runtime["spec"], 30))
        model = predictor["model"]
        self.assertEqual(model["runtime"], runtime["metadata"]["name"])
        formats = [(form["name"], form["version"]) for form in runtime["spec"]["supportedModelFormats"]]
        self.assertIn((model["modelFormat"]["name"], model["modelFormat"]["version"]), formats)
        self.assertIn(model["protocolVersion"], runtime["spec"]["protocolVersions"])
        self.assertRegex(model["storageUri"], r"^(pvc|s3|gs|https|hf)://")


if __name__ == "__main__":
    unittest.main()
