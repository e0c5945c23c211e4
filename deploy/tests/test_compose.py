"""Checks docker-compose.yml: every profile is valid, complete and hardened."""

import tempfile
import unittest

import yaml
from support import ROOT, on_path, program, run

PROFILES = {
    "gpu": {"models", "jpeg", "onnx", "trt"},
    "all-in-one": {"models", "suite"},
    "cpu": {"models", "suite-cpu"},
    "triton": {"models", "weights", "triton-onnx", "triton-trt", "pytorch"},
    "observe": {"prometheus", "grafana"},
    "bench": {"bench", "bench-triton", "bench-against"},
}
PORTS = {8002, 8010, 8011, 8012, 8020, 8021, 8022}
OURS = ["jpeg", "onnx", "trt", "suite", "suite-cpu"]


def config(compose, profile, environment=None):
    """The effective configuration; the user's .env is not read."""
    with tempfile.NamedTemporaryFile("w", suffix=".env") as settings:
        settings.write("".join(f"{name}={value}\n" for name, value in (environment or {}).items()))
        settings.flush()
        arguments = ["--env-file", settings.name, "--profile", profile, "config"]
        return yaml.safe_load(run(compose, *arguments, cwd=ROOT))


class Compose(unittest.TestCase):
    def services(self, profile, environment=None):
        return config(program("docker-compose"), profile, environment)["services"]

    def test_each_profile_has_its_services(self):
        for profile, names in PROFILES.items():
            self.assertEqual(set(self.services(profile)), names, profile)

    @unittest.skipUnless(on_path("docker-compose"), "no docker-compose on PATH")
    def test_the_installed_docker_compose_accepts_the_file(self):
        for profile, names in PROFILES.items():
            self.assertLessEqual(names, set(config(on_path("docker-compose"), profile)["services"]), profile)

    def test_seven_ports_are_published_on_loopback(self):
        for profile in ["gpu", "all-in-one", "cpu"]:
            ports = [port for service in self.services(profile).values() for port in service.get("ports", [])]
            self.assertEqual({port["target"] for port in ports}, PORTS, profile)
            self.assertEqual({port["host_ip"] for port in ports}, {"127.0.0.1"}, profile)
            self.assertEqual(sorted(int(port["published"]) for port in ports), sorted(PORTS), profile)

    def test_host_ports_change_without_the_container_ports(self):
        settings = {"HOST_TRT_GRPC_PORT": 50286, "BIND_ADDRESS": "0.0.0.0"}
        ports = self.services("gpu", settings)["trt"]["ports"]
        self.assertIn((8021, "50286", "0.0.0.0"), [(p["target"], str(p["published"]), p["host_ip"]) for p in ports])

    def test_settings_reach_the_server_only_when_set(self):
        settings = {"QUINTET_MAX_IMAGES": 8, "QUINTET_MODEL": "resnet18"}
        environment = self.services("gpu", settings)["jpeg"]["environment"]
        self.assertEqual(environment["QUINTET_MAX_IMAGES"], "8")
        self.assertEqual(environment["QUINTET_MODEL"], "resnet18")
        self.assertIsNone(environment["QUINTET_MAX_CONNECTIONS"])

    def test_services_share_one_gpu_and_start_in_order(self):
        services = self.services("gpu", {"GPU_ID": 1})
        for name in ["jpeg", "onnx", "trt"]:
            [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
            self.assertEqual((device["device_ids"], device["capabilities"]), (["1"], ["gpu"]))
            self.assertEqual(services[name]["depends_on"]["models"]["condition"], "service_completed_successfully")
        dependencies = services["trt"]["depends_on"].items()
        conditions = {name: dependency["condition"] for name, dependency in dependencies if name != "models"}
        self.assertEqual(conditions, {"jpeg": "service_healthy", "onnx": "service_healthy"})

    def test_more_flags_of_the_benchmark_keep_its_own(self):
        for name, service in self.services("bench").items():
            self.assertEqual(service["entrypoint"][:2], ["quintet-bench", "run"], name)
            self.assertIsNone(service.get("command"), name)

    def test_client_and_servers_have_cpus_memory_and_sockets_as_the_settings_say(self):
        settings = {"BENCH_CPUSET": "0-1", "SERVER_CPUSET": "2-5", "IPC": "host"}
        for profile in ["gpu", "all-in-one", "cpu", "triton", "bench"]:
            plain = self.services(profile)
            for name, service in self.services(profile, settings).items():
                if name in ["models", "weights"]:
                    continue
                self.assertEqual(service["cpuset"], "0-1" if profile == "bench" else "2-5", name)
                self.assertFalse(plain[name].get("cpuset"), name)
                if name != "pytorch":
                    self.assertEqual((service["ipc"], plain[name]["ipc"]), ("host", "private"), name)
                if profile != "triton":
                    self.assertIn("/sockets", [volume["target"] for volume in service["volumes"]], name)

    def test_the_benchmark_can_write_results_on_a_fresh_host(self):
        for name, service in self.services("bench").items():
            self.assertEqual((service["user"], service["cap_add"]), ("0:0", ["DAC_OVERRIDE"]), name)
        for service in self.services("bench", {"HOST_UID": 1000, "HOST_GID": 100}).values():
            self.assertEqual(service["user"], "1000:100")

    def test_containers_are_locked_down(self):
        for profile in ["gpu", "all-in-one", "cpu", "bench"]:
            for name, service in self.services(profile).items():
                self.assertTrue(service["read_only"], name)
                self.assertEqual(service["cap_drop"], ["ALL"], name)
                if name in OURS:
                    self.assertEqual(service["stop_grace_period"], "45s", name)


if __name__ == "__main__":
    unittest.main()
