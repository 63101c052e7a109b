"""How much energy a run took, where the machine tells: NVIDIA's counters and RAPL."""

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path

POWERCAP = Path('/sys/class/powercap')
MILLIJOULE_PER_WH, MICROJOULE_PER_WH = 3.6e6, 3.6e9


class EnergyMeter:
    """Energy of some GPUs and of all CPU packages of this machine since the meter was made.

    The counters know no processes: what else runs on the machine is counted too. A RAPL counter wraps around within
    the hour, so that a thread looks at it now and then.

    Args:
        gpus: UUIDs of the GPUs (``GPU-…``).
        powercap: Folder of the RAPL counters.
        interval: Seconds between two looks at them.
    """

    def __init__(self, gpus: Sequence[str] = (), powercap: Path = POWERCAP, interval: float = 30.0) -> None:
        self._nvml = _Nvml(gpus) if gpus else None
        self._gpu_start = self._nvml.millijoules() if self._nvml else None
        self._zones = {}  # counter file: [last reading, range], both in microjoules
        for zone in sorted(powercap.glob('intel-rapl:[0-9]')) + sorted(powercap.glob('intel-rapl:[0-9][0-9]')):
            try:
                counter = zone / 'energy_uj'
                self._zones[counter] = [int(counter.read_text()), int((zone / 'max_energy_range_uj').read_text())]
            except (OSError, ValueError):
                continue  # readable by root alone on most machines
        self._cpu_microjoules = 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        if self._zones:
            threading.Thread(target=self._watch, args=(interval,), daemon=True, name='energy').start()

    def watt_hours(self) -> float | None:
        """Return the energy so far in Wh; None where no counter can be read."""
        found = []
        if self._gpu_start is not None and (now := self._nvml.millijoules()) is not None:
            found.append((now - self._gpu_start) / MILLIJOULE_PER_WH)
        if self._zones:
            self._look()
            found.append(self._cpu_microjoules / MICROJOULE_PER_WH)
        return round(sum(found), 3) if found else None

    def close(self) -> None:
        """End the thread."""
        self._stop.set()

    def _watch(self, interval: float) -> None:
        while not self._stop.wait(interval):
            self._look()

    def _look(self) -> None:
        with self._lock:
            for counter, state in list(self._zones.items()):
                try:
                    now = int(counter.read_text())
                except (OSError, ValueError):
                    continue
                self._cpu_microjoules += now - state[0] if now >= state[0] else now + state[1] - state[0]
                state[0] = now


class _Nvml:
    """The energy counters of NVIDIA's management library, which every driver brings."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._handles = []
        try:
            self._library = ctypes.CDLL('libnvidia-ml.so.1')
        except OSError:
            return
        if self._library.nvmlInit_v2() != 0:
            return
        for gpu in gpus:
            handle = ctypes.c_void_p()
            if self._library.nvmlDeviceGetHandleByUUID(gpu.encode(), ctypes.byref(handle)) == 0:
                self._handles.append(handle)

    def millijoules(self) -> int | None:
        """Return the sum of the counters; None where one cannot be read (a share of a GPU has none)."""
        total = 0
        for handle in self._handles:
            value = ctypes.c_ulonglong()
            if self._library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)) != 0:
                return None
            total += value.value
        return total if self._handles else None
