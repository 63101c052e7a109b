"""Second part of the page's script: legend, mouse and fingers, the point that was clicked, buttons, keys, the start.

It sets what the first part (:mod:`projects.lidar.view.drawing`) draws: ``camera``, ``mode``, ``hidden``, ``pointSize``,
``lighting``.
"""

CONTROLS = r"""
  // ---- legend
  const percent = share => share > 0 && share < .0005 ? '<0.1 %' : (100 * share).toFixed(1) + ' %';
  const number = value => Math.abs(value) >= 100 ? value.toFixed(0) : +value.toPrecision(3) + '';
  const make = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  function legend() {
    const box = $('#legend');
    box.replaceChildren();
    const head = make('div', undefined, 'heading');
    head.append(make('strong', mode.title));
    box.append(head);
    if (mode.legend.length) {
      const all = make('button', hidden[mode.by].size ? 'show all' : 'hide all');
      all.onclick = () => {
        const now = hidden[mode.by], had = now.size;
        now.clear();
        if (!had) mode.legend.forEach(([code]) => now.add(code));
        fill(mode.by); legend(); draw();
      };
      head.append(all);
      for (const [code, name, points_] of mode.legend) {
        const row = make('label', undefined, hidden[mode.by].has(code) ? 'off' : '');
        const check = make('input'), patch = make('i');
        check.type = 'checkbox';
        check.checked = !hidden[mode.by].has(code);
        check.onchange = () => {
          hidden[mode.by][check.checked ? 'delete' : 'add'](code);
          fill(mode.by); legend(); draw();
        };
        row.ondblclick = event => {                          // this one alone
          event.preventDefault();
          hidden[mode.by].clear();
          mode.legend.forEach(([other]) => { if (other !== code) hidden[mode.by].add(other); });
          fill(mode.by); legend(); draw();
        };
        patch.style.background = `rgb(${colours[mode.by].slice(3 * code, 3 * code + 3).join(',')})`;
        row.append(check, patch, make('span', name), make('b', percent(points_ / count)));
        box.append(row);
      }
    } else if (!mode.rgb) {
      const ramp = make('div', undefined, 'ramp'), ends = make('div', undefined, 'ends'), stops = [];
      for (let i = 0; i < 256; i += 15) stops.push(`rgb(${colours[mode.by].slice(3 * i, 3 * i + 3).join(',')})`);
      ramp.style.background = `linear-gradient(90deg, ${stops.join(',')})`;
      const unit = mode.unit ? ' ' + mode.unit : '';
      const at = share => number(mode.low + share * (mode.high - mode.low)) + unit;
      ends.append(...[0, .5, 1].map(share => make('span', at(share))));
      box.append(ramp, ends);
    }
    const elsewhere = mode.by === 'class' ? 0 : hidden.class.size;
    if (elsewhere) {
      const note = make('p', `${elsewhere} ${elsewhere > 1 ? 'classes are' : 'class is'} hidden. `, 'note');
      const button = make('button', 'show', 'plain');
      button.onclick = () => { hidden.class.clear(); fill('class'); legend(); draw(); };
      note.append(button);
      box.append(note);
    }
  }
  function select(next) {
    mode = next;
    for (const button of $('.modes').children) button.setAttribute('aria-pressed', button.dataset.by === mode.by);
    legend(); draw();
  }
  for (const one of scene.modes) {
    const button = make('button', one.name);
    button.dataset.by = one.by;
    button.onclick = () => select(one);
    $('.modes').append(button);
  }

  // ---- moving
  const pointers = new Map();
  let moved = 0;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const pan = (dx, dy) => {
    const { right, up } = axes(), metre = camera.distance * Math.tan(FIELD / 2) * 2 / canvas.clientHeight;
    camera.focus = camera.focus.map((value, axis) => value - (dx * right[axis] - dy * up[axis]) * metre);
  };
  const zoom = factor => { camera.distance = clamp(camera.distance * factor, .5, 20 * Math.hypot(...span)); };
  const turn = (dx, dy) => {
    camera.azimuth -= dx * .006;
    camera.elevation = clamp(camera.elevation + dy * .006, -.2, Math.PI / 2);
  };
  canvas.addEventListener('contextmenu', event => event.preventDefault());
  canvas.addEventListener('pointerdown', event => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
  });
  canvas.addEventListener('pointermove', event => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const dx = event.clientX - last[0], dy = event.clientY - last[1];
    moved += Math.abs(dx) + Math.abs(dy);
    if (pointers.size === 1) {
      (event.buttons & 6 || event.shiftKey || event.ctrlKey ? pan : turn)(dx, dy);
    } else if (pointers.size === 2) {                        // two fingers: pan and pinch
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(last[0] - other[0], last[1] - other[1]);
      const after = Math.hypot(event.clientX - other[0], event.clientY - other[1]);
      pan(dx / 2, dy / 2);
      if (before > 4 && after > 4) zoom(before / after);
    }
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    draw();
  });
  for (const kind of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(kind, event => {
      if (kind === 'pointerup' && moved < 4 && pointers.size === 1) tell(pick(event));
      pointers.delete(event.pointerId);
    });
  }
  canvas.addEventListener('wheel', event => {
    event.preventDefault();
    zoom(Math.exp(clamp(event.deltaY * (event.deltaMode ? 30 : 1), -200, 200) * .0015));
    draw();
  }, { passive: false });
  canvas.addEventListener('dblclick', event => {
    const found = pick(event);
    if (found >= 0) { camera.focus = position(found); zoom(.6); draw(); }
  });

  // ---- one point
  const position = at => [0, 1, 2].map(axis => scene.low[axis] + place[3 * at + axis] / 65535 * span[axis]);
  function pick(event) {                                     // the nearest of those within 8 pixels
    const { right, up, back } = axes(), f = canvas.clientHeight / 2 / Math.tan(FIELD / 2);
    const x = event.clientX - canvas.clientWidth * (1 + aside()) / 2;
    const y = canvas.clientHeight * (1 + above()) / 2 - event.clientY;
    let best = -1, least = Infinity;
    const offset = [0, 1, 2].map(axis => scene.low[axis] - camera.focus[axis]);
    for (let at = 0; at < count; at++) {
      const p = [0, 1, 2].map(axis => offset[axis] + place[3 * at + axis] / 65535 * span[axis]);
      const deep = camera.distance - dot(p, back);
      if (deep < .1 || hidden.class.has(codes.class[at])) continue;
      if (!mode.rgb && hidden[mode.by].has(codes[mode.by][at])) continue;
      const apart = Math.hypot(dot(p, right) * f / deep - x, dot(p, up) * f / deep - y);
      if (apart < 8 && deep + apart * deep / f * 4 < least) { least = deep + apart * deep / f * 4; best = at; }
    }
    return best;
  }
  function tell(at) {
    const box = $('#point');
    box.replaceChildren();
    if (at < 0) return;
    const list = make('dl'), row = (name, value) => list.append(make('dt', name), make('dd', value));
    const here = position(at);
    ['x', 'y', 'z'].forEach((name, axis) => row(name, (here[axis] + scene.origin[axis]).toFixed(2) + ' m'));
    for (const one of scene.modes) {
      if (one.rgb) continue;
      const code = codes[one.by][at], entry = one.legend.find(([other]) => other === code);
      row(one.name, one.legend.length ? (entry ? entry[1] : String(code))
        : number(one.low + code / 255 * (one.high - one.low)) + (one.unit ? ' ' + one.unit : ''));
    }
    box.append(list);
  }

  // ---- tools and keys
  $('#size').oninput = event => { pointSize = 2 ** event.target.value; draw(); };
  $('#light').oninput = event => { lighting = +event.target.value; draw(); };
  $('#reset').onclick = () => reset(false);
  $('#top').onclick = () => reset(true);
  $('#save').onclick = () => {
    const link = make('a');
    link.download = scene.file + '.png';
    frame();
    link.href = canvas.toDataURL('image/png');
    link.click();
  };
  addEventListener('keydown', event => {
    if (event.target.tagName === 'INPUT' && event.target.type === 'range' || event.ctrlKey || event.metaKey) return;
    const index = '123456789'.indexOf(event.key), step = 30;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (index >= 0 && scene.modes[index]) select(scene.modes[index]);
    else if (moves[event.key]) { (event.shiftKey ? pan : turn)(...moves[event.key]); draw(); event.preventDefault(); }
    else if (event.key === '+' || event.key === '=') { zoom(.85); draw(); }
    else if (event.key === '-') { zoom(1 / .85); draw(); }
    else if (event.key === 'r') reset(false);
    else if (event.key === 't') reset(true);
    else if (event.key === 'd') $('#theme').click();
  });
  addEventListener('resize', draw);
  canvas.addEventListener('webglcontextlost', () => fail('The graphics card was taken away. Load the page again.'));

  // #by=height&theme=dark&view=top opens a colouring, for links and for tests
  const asked = new URLSearchParams(location.hash.slice(1));
  if (['light', 'dark'].includes(asked.get('theme'))) chosen = asked.get('theme');
  for (const code of (asked.get('hide') || '').split(',').filter(Boolean)) hidden.class.add(+code);
  fill('class');
  theme();
  reset(asked.get('view') === 'top');
  select(scene.modes.find(one => one.by === asked.get('by')) || scene.modes[0]);
  frame();
  document.body.dataset.ready = gl.getError() === gl.NO_ERROR ? 'yes' : 'error';
"""
