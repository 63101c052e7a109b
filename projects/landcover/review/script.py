"""What the review page does in the browser: keys, zoom, overlays, and fetching pictures before they are needed."""

SCRIPT = r"""
window.review = (() => {
  'use strict';
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const view = { zoom: 1, x: .5, y: .5 };  // the point of the image in the middle of each panel, 0..1
  const names = new Map();                 // 'r,g,b' -> class
  let item = null, busy = false, timer = 0, differing = false, hidden = false, opacity = 60, probes = {};
  let kept = [];                           // pictures fetched ahead; a reference keeps them decoded

  const send = (action, more = {}) => emitEvent('review', {
    action, number: item && item.number, note: $('.note textarea').value, ...more });

  // One question at a time: a second key waits for the next image instead of deciding about it unseen.
  function ask(action, more) {
    if (busy) return;
    busy = true;
    $('.review').setAttribute('aria-busy', 'true');
    clearTimeout(timer);
    timer = setTimeout(answer, 5000);
    send(action, more);
  }
  function answer() { busy = false; clearTimeout(timer); $('.review').setAttribute('aria-busy', 'false'); }

  async function show(next) {
    $('.review').classList.toggle('finished', !next);
    for (const button of $$('[data-choice]')) button.disabled = !next;
    if (!next) { item = null; $('.note textarea').value = ''; document.title = 'Label review: done'; answer(); return; }
    const pictures = {};
    await Promise.all(Object.entries(next.pictures).map(async ([kind, url]) => {
      const picture = new Image();
      picture.src = url;
      pictures[kind] = picture;
      try { await picture.decode(); } catch { picture.dataset.broken = 'yes'; }
    }));
    const other = !item || item.number !== next.number;
    item = next;
    item.loaded = pictures;
    if (other) { Object.assign(view, { zoom: 1, x: .5, y: .5 }); }
    $('.note textarea').value = next.note;
    document.title = 'Label review: ' + $('h1').textContent;
    probes = {};
    for (const panel of $$('.panel')) $('.base', panel).src = next.pictures.image;
    overlay();
    layout();
    document.body.dataset.number = next.number;
    answer();
    kept = next.ahead.map(url => { const picture = new Image(); picture.src = url; picture.decode().catch(() => {});
      return picture; });
  }

  function overlay() {
    if (!item) return;
    for (const panel of $$('.panel')) {
      const layer = $('.layer', panel);
      if (!layer) continue;
      const kind = panel.dataset.kind + (differing ? '-difference' : '');
      if (layer.getAttribute('src') !== item.pictures[kind]) layer.src = item.pictures[kind];
      layer.style.opacity = hidden ? 0 : opacity / 100;
    }
    const toggle = $('.toggle-difference');
    toggle.setAttribute('aria-pressed', differing);
    $('.slider output').textContent = hidden ? 'hidden' : opacity + ' %';
    $('.opacity').value = opacity;
  }

  function scale(stage) { return Math.min(stage.clientWidth / item.width, stage.clientHeight / item.height); }

  function layout() {
    if (!item) return;
    for (const stage of $$('.stage')) {
      const s = scale(stage) * view.zoom, w = item.width * s, h = item.height * s;
      // Whatever is larger than the panel fills it; whatever is smaller stays in the middle.
      const place = (size, room, at) => size <= room ? (room - size) / 2
        : Math.min(0, Math.max(room - size, room / 2 - at * size));
      const left = place(w, stage.clientWidth, view.x), top = place(h, stage.clientHeight, view.y);
      const plane = $('.plane', stage);
      plane.style.cssText = `left:${left}px;top:${top}px;width:${w}px;height:${h}px`;
      plane.classList.toggle('sharp', s >= 2);
      stage.classList.toggle('enlarged', view.zoom > 1);
    }
    $('.zoomed span').textContent = view.zoom > 1 ? Math.round(view.zoom * 100) + ' %' : 'Fit';
  }

  function clamp() {
    view.x = Math.min(1, Math.max(0, view.x));
    view.y = Math.min(1, Math.max(0, view.y));
  }

  // Zoom by a factor; the point (px, py) of the image, 0..1, at (dx, dy) pixels from the panel's middle stays there.
  function zoom(factor, px = view.x, py = view.y, dx = 0, dy = 0) {
    if (!item) return;
    view.zoom = Math.min(32, Math.max(1, view.zoom * factor));
    const s = scale($('.stage')) * view.zoom;
    view.x = px - dx / (item.width * s);
    view.y = py - dy / (item.height * s);
    clamp(); layout();
  }
  function fit() { Object.assign(view, { zoom: 1, x: .5, y: .5 }); layout(); }
  function pan(dx, dy) {
    const s = scale($('.stage')) * view.zoom, room = $('.stage');
    const keep = (value, size, space) => size <= space ? .5
      : Math.min(1 - space / size / 2, Math.max(space / size / 2, value));
    view.x = keep(view.x + dx / (item.width * s), item.width * s, room.clientWidth);
    view.y = keep(view.y + dy / (item.height * s), item.height * s, room.clientHeight);
    layout();
  }

  function decide(choice) { if (item) ask('decide', { choice }); }
  function undo() { ask('undo'); }
  function step(by) { ask('step', { by }); }
  function differences() { if (!item) return; differing = !differing; overlay(); }
  function hide() { if (!item) return; hidden = !hidden; overlay(); }
  function fade(by) {
    if (!item) return;
    hidden = false; opacity = Math.min(100, Math.max(0, opacity + by)); overlay();
  }
  function help() { const dialog = $('.help'); if (dialog.open) dialog.close(); else dialog.showModal(); }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target, key = event.key;
    if ($('.help').open) {
      if (key === '?') { event.preventDefault(); help(); }
      return;
    }
    if (target.tagName === 'TEXTAREA') {
      if (key === 'Escape' || (key === 'Enter' && !event.shiftKey)) { event.preventDefault(); target.blur(); }
      return;
    }
    if (target.type === 'range' && /^(Arrow|Home|End|Page)/.test(key)) return;
    const pressed = /^[1-9]$/.test(key) ? key : key.length === 1 ? key.toLowerCase() : key;
    const moves = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, -60], ArrowDown: [0, 60] };
    if (event.shiftKey && moves[key]) { event.preventDefault(); if (item) pan(...moves[key]); return; }
    const free = { '+': () => fade(10), '=': () => fade(10), '-': () => fade(-10), '.': () => zoom(1.5),
      ',': () => zoom(1 / 1.5), ArrowLeft: () => step(-1), ArrowRight: () => step(1) };
    const once = { k: () => decide('keep'), s: () => decide('skip'), u: undo, z: undo, d: differences, h: hide,
      0: fit, n: () => $('.note textarea').focus(), '?': help };
    let run = free[pressed] || (event.repeat ? null : once[pressed]);
    const place = /^[1-9]$/.test(pressed) && $(`[data-choice="${pressed}"]`);
    if (place && !event.repeat) run = () => decide(pressed);
    if (run) { event.preventDefault(); run(); }
  }

  // The class below the pointer, in every panel at once.
  function probe(kind) {
    if (!(kind in probes)) {
      const picture = item.loaded[kind];
      probes[kind] = null;
      if (picture && !picture.dataset.broken) {
        const canvas = document.createElement('canvas');
        canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
        const context = canvas.getContext('2d', { willReadFrequently: true });
        context.drawImage(picture, 0, 0);
        probes[kind] = context;
      }
    }
    return probes[kind];
  }
  function point(event) {
    const stage = event.target.closest && event.target.closest('.stage');
    if (!stage || !item) return null;
    const room = stage.getBoundingClientRect(), plane = $('.plane', stage).getBoundingClientRect();
    return { stage, x: (event.clientX - plane.left) / plane.width, y: (event.clientY - plane.top) / plane.height,
      dx: event.clientX - room.left - room.width / 2, dy: event.clientY - room.top - room.height / 2 };
  }
  function hover(event) {
    const at = point(event), on = at && at.x >= 0 && at.x < 1 && at.y >= 0 && at.y < 1;
    for (const panel of $$('.panel')) {
      const cross = $('.cross', panel), stage = $('.stage', panel), plane = $('.plane', stage);
      cross.style.display = on && stage !== at.stage ? 'block' : 'none';
      let name = '';
      if (on) {
        const left = plane.offsetLeft + at.x * plane.offsetWidth, top = plane.offsetTop + at.y * plane.offsetHeight;
        if (left < 0 || top < 0 || left > stage.clientWidth || top > stage.clientHeight) cross.style.display = 'none';
        cross.style.transform = `translate(${stage.offsetLeft + left}px, ${stage.offsetTop + top}px)`;
        const context = panel.dataset.kind === 'image' ? null : probe(panel.dataset.kind);
        if (context) {
          const [r, g, b] = context.getImageData(Math.floor(at.x * context.canvas.width),
            Math.floor(at.y * context.canvas.height), 1, 1).data;
          name = names.get(`${r},${g},${b}`) || 'not labelled';
        }
      }
      $('.under', panel).textContent = name;
      panel.classList.toggle('probing', !!name);
    }
  }

  function start(classes) {
    for (const [name, r, g, b] of classes) names.set(`${r},${g},${b}`, name);
    if (document.body.dataset.started) return;
    document.body.dataset.started = 'yes';
    document.addEventListener('keydown', onKey);
    const panels = $('.panels');
    panels.addEventListener('wheel', event => {
      const at = point(event);
      if (!at) return;
      event.preventDefault();
      zoom(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) / 400), at.x, at.y, at.dx, at.dy);
      hover(event);
    }, { passive: false });
    let grip = null;
    panels.addEventListener('pointerdown', event => {
      const at = point(event);
      if (at && event.button === 0) {
        grip = { x: event.clientX, y: event.clientY };
        at.stage.setPointerCapture(event.pointerId);
      }
    });
    panels.addEventListener('pointermove', event => {
      if (grip) {
        pan(grip.x - event.clientX, grip.y - event.clientY);
        grip = { x: event.clientX, y: event.clientY };
      }
      hover(event);
    });
    for (const name of ['pointerup', 'pointercancel']) panels.addEventListener(name, () => { grip = null; });
    panels.addEventListener('pointerleave', hover);
    panels.addEventListener('dblclick', event => { if (point(event)) fit(); });
    $('.opacity').addEventListener('input', event => { hidden = false; opacity = +event.target.value; overlay(); });
    $('.note textarea').addEventListener('change', () => { if (item) send('note'); });
    new ResizeObserver(layout).observe(panels);
  }

  return { start, show, answer, decide, undo, step, differences, zoom, fit, help };
})();
"""
