"""Gives every CUDA library that PyTorch links to but that is not here an empty stand-in.

    cuda_stand_ins.py FOLDER-OF-THE-ENVIRONMENT

Run once by pytorch.sh. A stand-in has the library's name and defines each symbol that PyTorch asks
of it, under the version it asks for; all fail with the code 999 if they are ever called.
"""

import pathlib
import re
import subprocess
import sys
import tempfile


def read(*arguments):
    return subprocess.run(["readelf", "-W", *arguments], check=True, capture_output=True, text=True).stdout


def main():
    folder = next(pathlib.Path(sys.argv[1]).glob("lib/python*/site-packages/torch/lib"))
    ours = sorted(folder.glob("*.so*"))
    present = {path.name for path in ours}
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
    missing, symbols, defined = set(), {}, set()
    for path in ours:
        needed = re.findall(r"\(NEEDED\).*\[(.+)\]", read("-d", str(path)))
        missing |= {name for name in needed if name not in present and f"\t{name} " not in known}
        # Version sections say of which library a versioned symbol is.
        file_of = {}
        current = None
        for line in read("-V", str(path)).splitlines():
            if found := re.search(r"File: (\S+)", line):
                current = found[1]
            elif current and (found := re.search(r"Name: (\S+)\s", line)):
                file_of[found[1]] = current
        for line in read("--dyn-syms", str(path)).splitlines():
            fields = line.split()
            if len(fields) < 8:
                continue
            name, _, version = fields[7].partition("@")
            if fields[6] != "UND":
                defined.add(name)
            elif version:
                version = version.lstrip("@")
                symbols.setdefault(file_of.get(version), set()).add((name, version))
            elif re.match(r"(cu|nccl|nvrtc|nvshmem|_?cupti)", name):
                symbols.setdefault(None, set()).add((name, ""))
    unversioned = {name for name, version in symbols.get(None, set()) if not version} - defined
    for index, library in enumerate(sorted(missing)):
        build(folder / library, symbols.get(library, set()), unversioned if index == 0 else set())


def build(path, versioned, plain):
    """Compiles one stand-in."""
    with tempfile.TemporaryDirectory() as scratch:
        source, script = pathlib.Path(scratch, "s.c"), pathlib.Path(scratch, "s.map")
        names = sorted({name for name, _ in versioned} | plain)
        source.write_text("".join(f"int {name}(void) {{ return 999; }}\n" for name in names))
        versions = {}
        for name, version in versioned:
            versions.setdefault(version, []).append(name)
        nodes = [f"{version} {{ global: {'; '.join(sorted(names))}; }};" for version, names in sorted(versions.items())]
        script.write_text("\n".join(nodes))
        command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", str(path), f"-Wl,-soname,{path.name}", str(source)]
        if nodes:
            command.append(f"-Wl,--version-script={script}")
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
