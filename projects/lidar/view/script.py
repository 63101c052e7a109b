"""What the 3-D page does in the browser: WebGL 2, no library, nothing fetched. One function of two parts."""

from projects.lidar.view.controls import CONTROLS
from projects.lidar.view.drawing import DRAWING

SCRIPT = '\n(() => {' + DRAWING + CONTROLS.removeprefix('\n') + '})();\n'
