# SPDX-License-Identifier: BSD-3-Clause
"""Medians, ratios, the table for people and the drawing of the ratios."""
import html
import statistics

from servers import BARE


def medians(samples):
    """Of a list of measurements {"ops", "cpu_us", ...}: one with the medians and the spread."""
    ops = [sample["ops"] for sample in samples]
    return {
        "ops": statistics.median(ops),
        "cpu_us": statistics.median(sample["cpu_us"] for sample in samples),
        "ops_rounds": ops,
        "spread": (max(ops) - min(ops)) / statistics.median(ops),
    }


def compare(case, servers, subject):
    """The case's ratios: subject over the best peer of each group of the case's targets."""
    if subject not in servers:
        return []
    rows = []
    for target in case["targets"]:
        peers = {name: result for name, result in servers.items()
                 if name not in (subject, BARE) and target["peers"](name)}
        if not peers:
            continue
        best = max(peers, key=lambda name: peers[name]["ops"])
        thrifty = min(peers, key=lambda name: peers[name]["cpu_us"])
        own = servers[subject]
        row = {
            "case": case["name"], "group": target["group"],
            "ops_peer": best, "ops_ratio": own["ops"] / peers[best]["ops"],
            "ops_target": target["ops"], "cpu_target": target["cpu"],
            "cpu_peer": thrifty, "cpu_ratio": None, "bare_ratio": None,
        }
        if BARE in servers:
            row["bare_ratio"] = own["ops"] / servers[BARE]["ops"]
        if peers[thrifty]["cpu_us"] > 0:
            row["cpu_ratio"] = own["cpu_us"] / peers[thrifty]["cpu_us"]
        row["ops_met"] = row["ops_ratio"] >= target["ops"]
        row["cpu_met"] = (target["cpu"] is None or row["cpu_ratio"] is None
                          or row["cpu_ratio"] <= target["cpu"])
        rows.append(row)
    return rows


def print_table(cases, results, ratios, subject):
    for case in cases:
        servers = results.get(case["name"])
        if not servers:
            continue
        print(f"\n{case['name']}: {case['title']}")
        print(f"  {'server':<20} {case['unit']:>12} {'CPU us/' + case['per']:>14} {'spread':>8}")
        for name, result in sorted(servers.items(), key=lambda item: -item[1]["ops"]):
            print(f"  {name:<20} {result['ops']:>12,.{case['digits']}f} "
                  f"{result['cpu_us']:>14.2f} {result['spread']:>7.0%}")
    if not ratios:
        print(f"\nno ratios: {subject} was not measured beside a peer")
        return
    print(f"\n{subject} over the best peer; the aim in brackets")
    print(f"  {'case':<22} {'against':<18} {'ops':>16} {'CPU':>16} {'ops / bare':>11}")
    for row in ratios:
        cpu = "-"
        if row["cpu_ratio"] is not None:
            aim = "" if row["cpu_target"] is None else f" [{row['cpu_target']:.2f}]"
            cpu = f"{row['cpu_ratio']:.2f}{aim}{'' if row['cpu_met'] else ' !'}"
        ops = f"{row['ops_ratio']:.2f} [{row['ops_target']:.2f}]{'' if row['ops_met'] else ' !'}"
        bare = "-" if row["bare_ratio"] is None else f"{row['bare_ratio']:.2f}"
        print(f"  {row['case']:<22} {row['group']:<18} {ops:>16} {cpu:>16} {bare:>11}")


BAR_HEIGHT = 14
ROW_HEIGHT = 44
LABEL_WIDTH = 300
PLOT_WIDTH = 520
TOP = 60


def bar(y, value, scale, target, met, label):
    """One bar, a mark where the aim is, and its number."""
    colour = "#2b7a4b" if met else "#b3472d"
    width = min(value, scale) / scale * PLOT_WIDTH
    parts = [f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" '
             f'fill="{colour}"/>',
             f'<text x="{LABEL_WIDTH + width + 6:.1f}" y="{y + 11}">{label} {value:.2f}</text>']
    if target is not None:
        x = LABEL_WIDTH + target / scale * PLOT_WIDTH
        parts.append(f'<path d="M{x:.1f} {y - 2}v{BAR_HEIGHT + 4}" stroke="#000" '
                     f'stroke-width="2"/>')
    return parts


def svg(ratios, subject, note):
    """The ratios as bars: above, operations (longer is better); below, CPU (shorter is better)."""
    largest = [row["ops_ratio"] for row in ratios] + [row["ops_target"] for row in ratios]
    largest += [row["cpu_ratio"] for row in ratios if row["cpu_ratio"] is not None]
    scale = max(2.0, *largest) * 1.05
    height = TOP + ROW_HEIGHT * len(ratios) + 40
    width = LABEL_WIDTH + PLOT_WIDTH + 130
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="10" y="22" font-size="16">{html.escape(subject)} over the best peer</text>',
           f'<text x="10" y="42" fill="#555">{html.escape(note)}</text>']
    x = LABEL_WIDTH + PLOT_WIDTH / scale
    out.append(f'<path d="M{x:.1f} {TOP - 8}V{height - 30}" stroke="#999" stroke-dasharray="4"/>')
    for i, row in enumerate(ratios):
        y = TOP + i * ROW_HEIGHT
        out.append(f'<text x="10" y="{y + 12}">{html.escape(row["case"])}</text>')
        out.append(f'<text x="10" y="{y + 28}" fill="#555">against {html.escape(row["ops_peer"])}'
                   f'</text>')
        out += bar(y, row["ops_ratio"], scale, row["ops_target"], row["ops_met"], "ops")
        if row["cpu_ratio"] is not None:
            out += bar(y + BAR_HEIGHT + 4, row["cpu_ratio"], scale, row["cpu_target"],
                       row["cpu_met"], "CPU")
    out.append(f'<text x="10" y="{height - 10}" fill="#555">ops: longer is better; CPU a request: '
               f'shorter is better; the black mark is the aim, the dashed line 1.0</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
