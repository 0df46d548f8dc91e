"""What a running gateway's metrics say."""

from tests.processes import Running, pasted


def metric(serve: Running, name: str) -> float:
    lines = pasted(f"curl -s {serve.manage}/metrics").splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).rpartition(" ")[2])


def in_time(serve: Running) -> None:
    """By the gateway's clock answers are within the budget and a little, but for what pauses of the machine held up."""
    within = metric(serve, 'edgeproxy_request_seconds_bucket{le="0.06"}')
    assert within >= 0.99 * metric(serve, "edgeproxy_request_seconds_count")
