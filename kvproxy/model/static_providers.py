"""The static configuration of the providers: where the dynamic configuration comes from."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from kvproxy.model.dynamic import ClientTLS
from kvproxy.model.kinds import Duration, Section, about


class Provider(Section, frozen=True, rename="camel", kw_only=True):
    """What every discovery provider has."""

    watch: Annotated[bool, about("follow changes")] = True
    filename: Annotated[str, about("custom template instead of the built-in one")] = ""
    constraints: Annotated[
        tuple[str, ...], about("such as `tag==api`; the global ones are added; all must hold")
    ] = ()
    trace: Annotated[bool, about("further log lines of the provider")] = False
    template_version: Annotated[int, about("generation of the label template")] = 0
    debug_log_generated_template: Annotated[
        bool, about("log the template before and after it is run")
    ] = False


class LabelProvider(Provider, frozen=True, rename="camel", kw_only=True):
    """What every provider that reads labels or tags has."""

    template_version: Annotated[int, about("generation of the label template")] = 2


class FileProvider(Section, frozen=True, rename="camel", kw_only=True):
    """Routes from TOML files.

    Without filename and directory the rules stand in the main configuration file.
    """

    filename: Annotated[
        str, about("file with frontends and backends", default="the main configuration file")
    ] = ""
    directory: Annotated[
        str, about("directory whose `*.toml` files are read, also below it; wins over filename")
    ] = ""
    watch: Annotated[bool, about("follow changes")] = True


EMBEDDED_FILE = "kvproxy.db"
"""Name of the embedded store's file in the state directory when the settings name none."""


class EmbeddedProvider(Section, frozen=True, rename="camel", kw_only=True):
    """Routes from the embedded store, a file that several processes may share."""

    path: Annotated[str, about("file of the store", default="kvproxy.db in stateDir")] = ""
    prefix: Annotated[str, about("prefix of all keys")] = "kvproxy"
    watch: Annotated[bool, about("follow changes")] = True


class KeyValueProvider(Provider, frozen=True, rename="camel", kw_only=True):
    """What every networked key-value store has."""

    endpoint: Annotated[str, about("host:port, several separated by commas")] = ""
    prefix: Annotated[str, about("prefix of all keys")] = "kvproxy"
    username: Annotated[str, about("user of the store")] = ""
    password: Annotated[str, about("password of the store", secret=True)] = ""
    tls: Annotated[ClientTLS, about("TLS towards the store")] | None = None


class ConsulProvider(KeyValueProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from Consul's key-value store."""

    endpoint: Annotated[str, about("host:port, several separated by commas")] = "127.0.0.1:8500"
    token: Annotated[
        str,
        about(
            "ACL token (kvproxy only)", secret=True, default="the environment's `CONSUL_HTTP_TOKEN`"
        ),
    ] = ""


class EtcdProvider(KeyValueProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from etcd."""

    endpoint: Annotated[str, about("host:port, several separated by commas")] = "127.0.0.1:2379"
    prefix: Annotated[str, about("prefix of all keys")] = "/kvproxy"
    use_api_v3: Annotated[bool, about("version 3 of etcd's interface; there is no other")] = field(
        default=True, name="useAPIV3"
    )


class ZookeeperProvider(KeyValueProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from ZooKeeper."""

    endpoint: Annotated[str, about("host:port, several separated by commas")] = "127.0.0.1:2181"


class BoltdbProvider(KeyValueProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from a BoltDB file."""

    endpoint: Annotated[str, about("path of the file")] = "127.0.0.1:4001"
    prefix: Annotated[str, about("prefix of all keys")] = "/kvproxy"


class RestProvider(Section, frozen=True, rename="camel", kw_only=True):
    """Routes put over HTTP."""

    entry_point: Annotated[str, about("entry point that serves it")] = "traefik"


class DockerProvider(LabelProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from labels of containers."""

    endpoint: Annotated[str, about("socket or host:port of the engine")] = (
        "unix:///var/run/docker.sock"
    )
    domain: Annotated[str, about("domain of the default rule")] = ""
    exposed_by_default: Annotated[bool, about("route containers without labels")] = True
    use_bind_port_ip: Annotated[bool, about("use the published address and port")] = field(
        default=False, name="useBindPortIP"
    )
    network: Annotated[str, about("network whose addresses are used")] = ""
    swarm_mode: Annotated[bool, about("read services of a swarm")] = False
    swarm_mode_refresh_seconds: Annotated[int, about("seconds between readings of a swarm")] = 15
    tls: Annotated[ClientTLS, about("TLS towards the engine")] | None = None


class ConsulCatalogProvider(LabelProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from the services registered in Consul."""

    endpoint: Annotated[str, about("host:port")] = "127.0.0.1:8500"
    watch: Annotated[bool, about("follow changes")] = False
    domain: Annotated[str, about("domain of the default rule")] = ""
    exposed_by_default: Annotated[bool, about("route services without tags")] = True
    prefix: Annotated[str, about("prefix of the tags")] = "traefik"
    front_end_rule: Annotated[str, about("template of the default rule")] = (
        "Host:{{.ServiceName}}.{{.Domain}}"
    )
    stale: Annotated[bool, about("accept answers of any server of the cluster")] = False
    strict_checks: Annotated[bool, about("route only to instances whose checks pass")] = True
    tls: Annotated[ClientTLS, about("TLS towards Consul")] | None = None


class MarathonBasic(Section, frozen=True, rename="camel", kw_only=True):
    """Login at Marathon."""

    http_basic_auth_user: Annotated[str, about("user")] = field(
        default="", name="httpBasicAuthUser"
    )
    http_basic_password: Annotated[str, about("password", secret=True)] = field(
        default="", name="httpBasicPassword"
    )


class MarathonProvider(LabelProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from applications of Marathon."""

    endpoint: Annotated[str, about("URL, several separated by commas")] = "http://127.0.0.1:8080"
    domain: Annotated[str, about("domain of the default rule")] = ""
    dcos_token: Annotated[str, about("token of DC/OS", secret=True)] = ""
    exposed_by_default: Annotated[bool, about("route applications without labels")] = True
    groups_as_sub_domains: Annotated[bool, about("turn groups into subdomains")] = False
    marathon_lb_compatibility: Annotated[bool, about("read labels of marathon-lb")] = field(
        default=False, name="marathonLBCompatibility"
    )
    filter_marathon_constraints: Annotated[bool, about("let constraints see those of Marathon")] = (
        False
    )
    force_task_hostname: Annotated[bool, about("use the host name of the task")] = False
    respect_readiness_checks: Annotated[bool, about("route only to tasks that are ready")] = False
    dialer_timeout: Annotated[Duration, about("longest time to connect")] = 5.0
    response_header_timeout: Annotated[Duration, about("longest wait for an answer")] = 60.0
    tls_handshake_timeout: Annotated[Duration, about("longest TLS handshake")] = field(
        default=5.0, name="tlsHandshakeTimeout"
    )
    keep_alive: Annotated[Duration, about("TCP keep-alive")] = 10.0
    basic: Annotated[MarathonBasic, about("login")] | None = None
    tls: Annotated[ClientTLS, about("TLS towards Marathon")] | None = None


class MesosProvider(LabelProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from tasks of Mesos."""

    endpoint: Annotated[str, about("URL, or zk://...")] = "http://127.0.0.1:5050"
    domain: Annotated[str, about("domain of the default rule")] = ""
    exposed_by_default: Annotated[bool, about("route tasks without labels")] = True
    groups_as_sub_domains: Annotated[bool, about("turn groups into subdomains")] = False
    ip_sources: Annotated[str, about("order of the sources of a task's address")] = ""
    masters: Annotated[tuple[str, ...], about("masters", flag=False)] = ()
    zk_detection_timeout: Annotated[int, about("seconds to find the leader")] = 30
    refresh_seconds: Annotated[int, about("seconds between readings")] = 30
    state_timeout_second: Annotated[int, about("seconds to wait for the state")] = 30


class EcsProvider(LabelProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from tasks of Amazon ECS."""

    clusters: Annotated[tuple[str, ...], about("clusters", separators=",;")] = ("default",)
    cluster: Annotated[str, about("deprecated: one cluster")] = ""
    auto_discover_clusters: Annotated[bool, about("read all clusters")] = False
    exposed_by_default: Annotated[bool, about("route tasks without labels")] = True
    refresh_seconds: Annotated[int, about("seconds between readings")] = 15
    region: Annotated[str, about("region")] = ""
    access_key_id: Annotated[str, about("access key")] = field(default="", name="accessKeyID")
    secret_access_key: Annotated[str, about("secret of the access key", secret=True)] = ""
    domain: Annotated[str, about("domain of the default rule")] = ""


class DynamodbProvider(Provider, frozen=True, rename="camel", kw_only=True):
    """Routes from a table of Amazon DynamoDB."""

    table_name: Annotated[str, about("table")] = "traefik"
    refresh_seconds: Annotated[int, about("seconds between readings")] = 15
    region: Annotated[str, about("region")] = ""
    access_key_id: Annotated[str, about("access key")] = field(default="", name="accessKeyID")
    secret_access_key: Annotated[str, about("secret of the access key", secret=True)] = ""
    endpoint: Annotated[str, about("endpoint of the service")] = ""


class RancherApi(Section, frozen=True, rename="camel", kw_only=True):
    """Rancher's own interface."""

    endpoint: Annotated[str, about("URL")] = ""
    access_key: Annotated[str, about("access key")] = ""
    secret_key: Annotated[str, about("secret of the access key", secret=True)] = ""


class RancherMetadata(Section, frozen=True, rename="camel", kw_only=True):
    """Rancher's metadata service."""

    interval_poll: Annotated[bool, about("poll instead of waiting for changes")] = False
    prefix: Annotated[str, about("prefix of the service")] = "latest"


class RancherProvider(LabelProvider, frozen=True, rename="camel", kw_only=True):
    """Routes from services of Rancher."""

    domain: Annotated[str, about("domain of the default rule")] = ""
    exposed_by_default: Annotated[bool, about("route services without labels")] = True
    refresh_seconds: Annotated[int, about("seconds between readings")] = 15
    enable_service_health_filter: Annotated[bool, about("leave unhealthy services out")] = False
    api: Annotated[RancherApi, about("ask the interface")] | None = None
    metadata: Annotated[RancherMetadata, about("ask the metadata service")] | None = None
    endpoint: Annotated[str, about("deprecated: `rancher.api.endpoint`")] = ""
    access_key: Annotated[str, about("deprecated: `rancher.api.accessKey`")] = ""
    secret_key: Annotated[str, about("deprecated: `rancher.api.secretKey`", secret=True)] = ""


class EurekaProvider(Provider, frozen=True, rename="camel", kw_only=True):
    """Routes from services registered in Eureka."""

    endpoint: Annotated[str, about("URL")] = ""
    watch: Annotated[bool, about("follow changes")] = False
    refresh_seconds: Annotated[Duration, about("time between readings")] = 30.0
    delay: Annotated[Duration, about("deprecated: `eureka.refreshSeconds`")] = 0.0


class IngressEndpoint(Section, frozen=True, rename="camel", kw_only=True):
    """What is written into the status of ingresses."""

    ip: Annotated[str, about("address")] = ""
    hostname: Annotated[str, about("host name")] = ""
    published_service: Annotated[str, about("service whose status is copied")] = ""


class KubernetesProvider(Provider, frozen=True, rename="camel", kw_only=True):
    """Routes from ingresses of Kubernetes."""

    endpoint: Annotated[str, about("URL of the API server")] = ""
    token: Annotated[str, about("bearer token", secret=True)] = ""
    cert_auth_file_path: Annotated[str, about("file of the authority of the API server")] = ""
    label_selector: Annotated[str, about("selector of ingresses")] = ""
    ingress_class: Annotated[str, about("class of ingresses")] = ""
    namespaces: Annotated[tuple[str, ...], about("namespaces; empty = all", separators=",;")] = ()
    disable_pass_host_headers: Annotated[bool, about("do not pass the client's Host")] = False
    enable_pass_tls_cert: Annotated[bool, about("pass client certificates")] = field(
        default=False, name="enablePassTLSCert"
    )
    throttle_duration: Annotated[Duration, about("shortest time between updates")] = 0.0
    ingress_endpoint: Annotated[IngressEndpoint, about("status of ingresses")] | None = None


class ServiceFabricProvider(Provider, frozen=True, rename="camel", kw_only=True):
    """Routes from services of Service Fabric."""

    cluster_management_url: Annotated[str, about("URL of the cluster")] = field(
        default="", name="clusterManagementURL"
    )
    api_version: Annotated[str, about("version of the interface")] = field(
        default="", name="apiVersion"
    )
    refresh_seconds: Annotated[Duration, about("time between readings")] = 0.0
    app_insights_client_name: Annotated[str, about("client name for Application Insights")] = ""
    app_insights_key: Annotated[str, about("key of Application Insights", secret=True)] = ""
    app_insights_batch_size: Annotated[int, about("events in a batch")] = 0
    app_insights_interval: Annotated[Duration, about("time between batches")] = 0.0
    tls: Annotated[ClientTLS, about("TLS towards the cluster")] | None = None
