#!/usr/bin/env python3
"""What scripts/demo needs beside the tools of the system: a small plant project, and comparisons.

demo_files.py make DIR        a project of real files: DXF drawings, an IFC model, a SQLite
                              project database, a workbook, a list, a document
demo_files.py workbook FILE   the workbook, as a spreadsheet program saves it again
demo_files.py describe DIR    one line per name: kind, mode, mtime, SHA-256 or target, path
demo_files.py copy FROM TO LOG   copies files one by one; writes the name of each into LOG,
                              synced, once its close has returned
"""

import hashlib
import os
import sqlite3
import stat
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

EQUIPMENT = [
    ("P-101", "pump", "Feed water pump", 0, 0),
    ("P-102", "pump", "Feed water pump, reserve", 0, 40),
    ("V-201", "vessel", "Feed water tank", 60, 20),
    ("E-301", "exchanger", "Preheater", 120, 20),
    ("B-401", "boiler", "Steam generator", 180, 20),
]
LINES = [
    ("L-1001", "P-101", "V-201", 150),
    ("L-1002", "P-102", "V-201", 150),
    ("L-1003", "V-201", "E-301", 200),
    ("L-1004", "E-301", "B-401", 200),
]
EXPORT = """#!/bin/sh
sqlite3 "$(dirname "$0")/../database/plant.dcf" 'select tag, name from equipment order by tag'
"""
EPOCH = 1_700_000_000


def make(target: Path) -> None:
    """Write the project; equal calls give equal bytes and times."""
    files = {
        "drawings/pid/PID-0001.dxf": dxf(pid()),
        "drawings/layout/EL+0.00.dxf": dxf(layout()),
        "models/pump-house.ifc": ifc(),
        "documents/specification.pdf": pdf("Kraftwerk 1234567", "Specification of the feed water"),
        "lists/lines.csv": "".join(f"{';'.join(map(str, row))}\n" for row in LINES),
        "lists/Größen & Maße.txt": "DN 150: 168,3 × 4,5\nDN 200: 219,1 × 6,3\n",
        "scripts/export.sh": EXPORT,
    }
    for name, content in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    workbook(target / "lists/equipment.xlsx")
    database(target / "database/plant.dcf")
    (target / "scripts/export.sh").chmod(0o755)
    (target / "documents/specification.pdf").chmod(0o444)
    (target / "drawings/current.dxf").symlink_to("pid/PID-0001.dxf")
    (target / "drawings/archive").mkdir()
    for number, path in enumerate([*sorted(target.rglob("*"), reverse=True), target]):
        when = EPOCH * 10**9 + number * 60_123_456_789
        os.utime(path, ns=(when, when), follow_symlinks=False)


# --- DXF R12: pairs of a code and a value, a line each ------------------------------------------


def dxf(entities: list[list[tuple[int, object]]]) -> str:
    head = [(0, "SECTION"), (2, "HEADER"), (9, "$ACADVER"), (1, "AC1009"), (0, "ENDSEC")]
    body = [pair for entity in entities for pair in entity]
    pairs = [*head, (0, "SECTION"), (2, "ENTITIES"), *body, (0, "ENDSEC"), (0, "EOF")]
    return "".join(f"{code}\n{value}\n" for code, value in pairs)


def line(x1: float, y1: float, x2: float, y2: float, layer: str) -> list[tuple[int, object]]:
    return [(0, "LINE"), (8, layer), (10, x1), (20, y1), (30, 0.0), (11, x2), (21, y2), (31, 0.0)]


def circle(x: float, y: float, radius: float, layer: str) -> list[tuple[int, object]]:
    return [(0, "CIRCLE"), (8, layer), (10, x), (20, y), (30, 0.0), (40, radius)]


def text(x: float, y: float, words: str, layer: str) -> list[tuple[int, object]]:
    return [(0, "TEXT"), (8, layer), (10, x), (20, y), (30, 0.0), (40, 2.5), (1, words)]


def pid() -> list[list[tuple[int, object]]]:
    places = {tag: (float(x), float(y)) for tag, _, _, x, y in EQUIPMENT}
    shapes = [circle(x, y, 8.0, "EQUIPMENT") for x, y in places.values()]
    labels = [text(x - 6, y - 14, tag, "TAGS") for tag, (x, y) in places.items()]
    pipes = [line(*places[a], *places[b], "PIPES") for _, a, b, _ in LINES]
    return [*shapes, *labels, *pipes]


def layout() -> list[list[tuple[int, object]]]:
    corners = [(0, 0), (240, 0), (240, 80), (0, 80)]
    walls = [line(*a, *b, "WALLS") for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    grid = [line(x, 0, x, 80, "GRID") for x in range(0, 241, 6)]
    return [*walls, *grid, text(4, 74, "EL +0.00", "TAGS")]


# --- IFC4: a STEP file --------------------------------------------------------------------------


def ifc() -> str:
    data = [
        "#1=IFCPERSON($,'Muster','Anna',$,$,$,$,$);",
        "#2=IFCORGANIZATION($,'Plant design',$,$,$);",
        "#3=IFCPERSONANDORGANIZATION(#1,#2,$);",
        "#4=IFCAPPLICATION(#2,'1','PDFS demo','pdfs-demo');",
        f"#5=IFCOWNERHISTORY(#3,#4,$,.ADDED.,$,$,$,{EPOCH});",
        "#6=IFCSIUNIT(*,.LENGTHUNIT.,.MILLI.,.METRE.);",
        "#7=IFCUNITASSIGNMENT((#6));",
        "#8=IFCCARTESIANPOINT((0.,0.,0.));",
        "#9=IFCAXIS2PLACEMENT3D(#8,$,$);",
        "#10=IFCGEOMETRICREPRESENTATIONCONTEXT($,'Model',3,1.E-05,#9,$);",
        "#11=IFCPROJECT('0YvctVUKr0kugbFTf53O9L',#5,'Kraftwerk 1234567',$,$,$,$,(#10),#7);",
        "#12=IFCLOCALPLACEMENT($,#9);",
        "#13=IFCBUILDING('2O_RhPBz96RwhtBmyf2u$1',#5,'Pump house',$,$,#12,$,$,.ELEMENT.,$,$,$);",
        "#14=IFCRELAGGREGATES('3Zu5Bv0LOHrPC10026FoQQ',#5,$,$,#11,(#13));",
    ]
    for number, (tag, _, name, x, y) in enumerate(EQUIPMENT):
        at, proxy = 100 + 10 * number, "IFCBUILDINGELEMENTPROXY"
        data += [
            f"#{at}=IFCCARTESIANPOINT(({x * 100}.,{y * 100}.,0.));",
            f"#{at + 1}=IFCAXIS2PLACEMENT3D(#{at},$,$);",
            f"#{at + 2}=IFCLOCALPLACEMENT(#12,#{at + 1});",
            f"#{at + 3}={proxy}('1{number:021d}',#5,'{tag}','{name}',$,#{at + 2},$,'{tag}',$);",
        ]
    header = (
        "HEADER;\nFILE_DESCRIPTION(('ViewDefinition [CoordinationView]'),'2;1');\n"
        "FILE_NAME('pump-house.ifc','2023-11-14T22:13:20',('Anna Muster'),('Plant design'),"
        "'PDFS demo','PDFS demo','');\nFILE_SCHEMA(('IFC4'));\nENDSEC;\n"
    )
    return (
        "ISO-10303-21;\n" + header + "DATA;\n" + "\n".join(data) + "\nENDSEC;\nEND-ISO-10303-21;\n"
    )


# --- database, workbook, document ---------------------------------------------------------------


def database(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("create table equipment (tag text primary key, kind, name, x real, y real)")
        db.execute("create table lines (number text primary key, source, target, dn integer)")
        db.executemany("insert into equipment values (?, ?, ?, ?, ?)", EQUIPMENT)
        db.executemany("insert into lines values (?, ?, ?, ?)", LINES)
    db.close()


def workbook(path: Path, *, sheet: str = "Equipment") -> None:
    """An .xlsx as Office Open XML has it, with strings in the cells."""
    rows = "".join(
        f'<row r="{number}">'
        + "".join(
            f'<c r="{"ABC"[i]}{number}" t="inlineStr"><is><t>{value}</t></is></c>'
            for i, value in enumerate(row[:3])
        )
        + "</row>"
        for number, row in enumerate(EQUIPMENT, 1)
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
        "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet '
        f'name="{sheet}" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData>'
        "</worksheet>",
    }
    temporary = path.with_name(f"~{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            described = zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20))
            archive.writestr(described, f'<?xml version="1.0" encoding="UTF-8"?>\n{content}')
    temporary.replace(path)


def pdf(*lines: str) -> bytes:
    """A page of text."""
    shown = " ".join(f"({line}) Tj 0 -20 Td" for line in lines)
    stream = f"BT /F1 14 Tf 72 760 Td {shown} ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
            "/Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return f"{out}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


# --- comparing and copying ----------------------------------------------------------------------


def describe(top: Path) -> Iterator[str]:
    """One line for each name below `top`, and for `top` itself."""
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        if path.is_symlink():
            what = f"-> {path.readlink()}"
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = "-"
        mode = stat.filemode(status.st_mode)
        yield f"{mode} {status.st_mtime_ns} {what} {path.relative_to(top)}"


def copy(source: Path, target: Path, log: Path) -> None:
    """Copy file by file, slowly enough to be interrupted amid it."""
    with log.open("a") as written:
        for path in sorted(source.iterdir()):
            with (target / path.name).open("wb") as file:
                file.write(path.read_bytes())
            written.write(f"{path.name}\n")
            written.flush()
            os.fsync(written.fileno())
            time.sleep(0.002)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["make", target]:
            make(Path(target))
        case ["workbook", path]:
            workbook(Path(path), sheet="Equipment 2")
        case ["describe", top]:
            sys.stdout.writelines(f"{line}\n" for line in describe(Path(top)))
        case ["copy", source, target, log]:
            copy(Path(source), Path(target), Path(log))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
