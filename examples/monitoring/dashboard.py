#!/usr/bin/env python3
"""Makes dashboard.json for Grafana, and reads it back:

    pip install 'grafana-foundation-sdk==1769699998!10.1.0'
    examples/monitoring/dashboard.py            writes dashboard.json
    examples/monitoring/dashboard.py --check    fails if that would change it
"""

import itertools
import json
import pathlib
import sys

from grafana_foundation_sdk.builders import common, dashboard, prometheus, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import prometheus as p

FILE = pathlib.Path(__file__).with_name("dashboard.json")
SOURCE = d.DataSourceRef(type_val="prometheus", uid="${datasource}")

# Title, what it shows, unit, queries with their legends; HERE stands for the chosen servers.
GRAPHS = {
    "Ids": [
        ("Ids given", "1: idgen_next() gives ids. A standby gives none.", "bool_yes_no",
         [("idgen_gives_ids{HERE}", "{{instance}}")]),
        ("Ids a second", "Rows inserted into tables with ids; calls of idgen_next() and the like, with track_functions = all; values "
         "taken for counters, in whole blocks.", "ops",
         [("sum by (instance) (rate(idgen_table_inserted_total{HERE}[$__rate_interval]))", "{{instance}} rows"),
          ("sum by (instance, function) (rate(idgen_function_calls_total{HERE}[$__rate_interval]))", "{{instance}} {{function}}"),
          ("sum by (instance, generator) (rate(idgen_counter_values_total{HERE}[$__rate_interval]))", "{{instance}} {{generator}}")]),
        ("Refused a second", "Calls that ended with an error, of any generator.", "ops",
         [("rate(idgen_refusals_total{HERE}[$__rate_interval])", "{{instance}}")]),
        ("Waiting", "Calls a second that waited for the durable horizon; how many callers at a time sleep since a burst ran ahead of "
         "the clock.", "short",
         [("rate(idgen_horizon_waits_total{HERE}[$__rate_interval])", "{{instance}} waits a second"),
          ("rate(idgen_slept_seconds_total{HERE}[$__rate_interval])", "{{instance}} asleep")]),
    ],
    "Clock and horizon": [
        ("Clock ahead", "How far ids are ahead of the wall clock.", "s",
         [("idgen_clock_ahead_seconds{HERE}", "{{instance}}")]),
        ("Clock held", "How far the wall clock leapt ahead without being followed.", "s",
         [("idgen_clock_held_seconds{HERE}", "{{instance}}")]),
        ("Horizon", "How far the durable horizon is ahead of the clock of the ids; the clock runs past it while no id is given.", "s",
         [("clamp_min(idgen_horizon_ahead_seconds{HERE}, 0)", "{{instance}}")]),
        ("Moves of the horizon a second", "Each is a small record of WAL and a flush.", "ops",
         [("rate(idgen_horizon_moves_total{HERE}[$__rate_interval])", "{{instance}}")]),
    ],
    "What can run out": [
        ("Days left of layouts", "Until the timestamps of a layout run out.", "d",
         [("(idgen_layout_ends_timestamp_seconds{HERE} - time()) / 86400", "{{instance}} {{datname}} {{generator}}")]),
        ("Counters used", "The share of its values that is taken.", "percentunit",
         [("idgen_counter_used_ratio{HERE}", "{{instance}} {{datname}} {{generator}}")]),
        ("Places used", "Of those for replication origins, and of those for generators.", "percentunit",
         [("idgen_origin_places_used{HERE} / idgen_origin_places_max{HERE}", "{{instance}} origins"),
          ("idgen_generators_in_use{HERE} / idgen_generators_max{HERE}", "{{instance}} generators")]),
        ("Machine ids taken, of 1024", "On the authority: granted, reserved, and given back but not free yet.", "short",
         [("idgen_machine_ids_used", "{{state}}")]),
    ],
    "Servers": [
        ("Grants: time left", "Until a member's grant ends, if it is not renewed.", "s",
         [("idgen_authority_grant_left_seconds{HERE}", "{{instance}}")]),
        ("Peers: clocks", "How far the wall clock of a peer is ahead of the server's.", "s",
         [("idgen_peer_clock_offset_seconds{HERE}", "{{instance}}: {{peer}}")]),
    ],
}

# Title, what it shows, query, columns in order.
TABLES = [
    ("Machine ids", "Who is who.", "idgen_server_info{HERE}", ["instance", "role", "machine_id", "setting", "version", "system"]),
    ("What is in the way", "Why no ids are given, what is in the way of an authority, and what idgen_doctor() finds.",
     "idgen_obstacle_seconds{HERE} or idgen_authority_error_info{HERE} or idgen_finding_findings{HERE}",
     ["instance", "datname", "obstacle", "error", "severity", "finding", "object"]),
]


def query(text):
    return prometheus.Dataquery().expr(text.replace("HERE", 'instance=~"$instance"')).datasource(SOURCE)


def graph(title, description, unit, queries):
    panel = (timeseries.Panel().title(title).description(description).unit(unit).datasource(SOURCE).height(8).span(6)
             .line_width(1).fill_opacity(5).show_points(c.VisibilityMode.NEVER)
             .legend(common.VizLegendOptions().show_legend(True).display_mode(c.LegendDisplayMode.LIST).placement(c.LegendPlacement.BOTTOM))
             .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)))
    for number, (text, legend) in enumerate(queries):
        panel.with_target(query(text).range().legend_format(legend).ref_id(chr(ord("A") + number)))
    return panel


def rows(title, description, text, columns):
    order = {name: place for place, name in enumerate(columns)}
    hidden = {name: True for name in ["Time", "Value", "__name__", "job", "server", "info"]}
    return (table.Panel().title(title).description(description).datasource(SOURCE).height(8).span(6).show_header(True)
            .with_target(query(text).instant().format(p.PromQueryFormat.TABLE).ref_id("A"))
            .with_transformation(d.DataTransformerConfig(
                id_val="organize", options={"excludeByName": hidden, "indexByName": order, "renameByName": {}})))


def build():
    made = (dashboard.Dashboard("idgen").uid("idgen").tags(["postgresql", "idgen"]).description("Servers that give ids with idgen")
            .time("now-1h", "now").refresh("30s").timezone("browser").tooltip(d.DashboardCursorSync.CROSSHAIR)
            .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
            .with_variable(dashboard.QueryVariable("instance").label("Server").datasource(SOURCE)
                           .query("label_values(idgen_gives_ids, instance)").refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
                           .multi(True).include_all(True).all_value(".*")
                           .current(d.VariableOption(selected=True, text="All", value="$__all"))))
    ids = itertools.count(1)
    for title, graphs in GRAPHS.items():
        made.with_row(dashboard.Row(title).id(next(ids)))
        for line in graphs:
            made.with_panel(graph(*line).id(next(ids)))
    for line in TABLES:
        made.with_panel(rows(*line).id(next(ids)))
    return made.build()


register_default_plugins()
text = json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
# Read back into the library's own types, nothing is lost.
again = json.dumps(d.Dashboard.from_json(json.loads(text)), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
if again != text:
    sys.exit("dashboard.json is not read back as it was written")
if sys.argv[1:] != ["--check"]:
    FILE.write_text(text)
elif FILE.read_text() != text:
    sys.exit("dashboard.json is not what dashboard.py makes")
