"""First part of the page's script: data, WebGL 2, camera, and one picture (``draw``).

Every colouring is one byte a point and a table of 256 colours whose alpha hides entries; classes hidden in the legend
stay hidden in every colouring. Points go into a picture with its depth first; a second pass darkens what lies below its
neighbours (eye-dome lighting, Boucheny 2009).
"""

DRAWING = r"""
  'use strict';
  const $ = selector => document.querySelector(selector);
  const scene = JSON.parse($('#scene').textContent);
  const fail = message => { $('#failure').textContent = message; };
  const bytes = name => {
    const text = atob(scene.data[name]), out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
    return out;
  };
  const count = scene.count;
  const place = new Uint16Array(bytes('xyz').buffer);       // count x 3, 0..65535 over the box
  const codes = {};                                         // colouring -> count bytes
  for (const mode of scene.modes) codes[mode.by] = bytes(mode.by);
  const hidden = {};                                        // colouring -> codes that are hidden
  for (const mode of scene.modes) hidden[mode.by] = new Set();

  // ---- theme
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  let chosen = null;
  const theme = () => { root.dataset.theme = chosen || (dark.matches ? 'dark' : 'light'); draw(); };
  dark.addEventListener('change', theme);
  $('#theme').onclick = () => { chosen = root.dataset.theme === 'dark' ? 'light' : 'dark'; theme(); };

  // ---- WebGL
  const canvas = $('canvas');
  const gl = canvas.getContext('webgl2', { antialias: false, alpha: false, preserveDrawingBuffer: true });
  if (!gl) {
    fail('This browser has no WebGL 2, which the view needs. Any current Firefox, Chrome, Edge or Safari has it; it ' +
         'may be switched off in the settings.');
    return;
  }
  const program = (vertex, fragment) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, '#version 300 es\nprecision highp float;\nprecision highp int;\n' + text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    }
    gl.bindAttribLocation(made, 0, 'place'); gl.bindAttribLocation(made, 1, 'code');
    gl.bindAttribLocation(made, 2, 'kind'); gl.bindAttribLocation(made, 3, 'own');
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
    const uniforms = {};
    for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
      const { name } = gl.getActiveUniform(made, i);
      uniforms[name] = gl.getUniformLocation(made, name);
    }
    return { made, uniforms };
  };
  const points = program(`
    in vec3 place; in float code; in float kind; in vec3 own;
    uniform vec3 low, span; uniform mat4 view, projection; uniform float size, most; uniform bool coloured;
    uniform sampler2D table, shown;
    out vec3 colour; out float distance_;
    void main() {
      vec4 seen = view * vec4(low + place * span, 1.0);
      vec4 entry = texelFetch(table, ivec2(int(code + .5), 0), 0);
      float alpha = entry.a * texelFetch(shown, ivec2(int(kind + .5), 0), 0).a;
      colour = coloured ? own : entry.rgb;
      distance_ = -seen.z;
      gl_Position = alpha < .5 ? vec4(2., 2., 2., 1.) : projection * seen;
      gl_PointSize = clamp(size / max(-seen.z, .01), 1.5, most);
    }`, `
    in vec3 colour; in float distance_;
    layout(location = 0) out vec4 colour_; layout(location = 1) out vec4 depth_;
    void main() {
      vec2 from = gl_PointCoord - .5;
      if (dot(from, from) > .25) discard;
      colour_ = vec4(colour, 1.);
      // log2 of the distance in 24 bits: a float texture to render to is not everywhere
      uint value = uint(clamp((log2(distance_) + 4.) / 20., 0., .999999) * 16777216.);
      depth_ = vec4(vec3(value >> 16, (value >> 8) & 255u, value & 255u) / 255., 1.);
    }`);
  const shade = program(`
    in vec3 place;
    void main() { gl_Position = vec4(place.xy * 2. - 1., 0., 1.); }`, `
    uniform sampler2D picture, depths; uniform vec3 space; uniform float strength, reach;
    out vec4 result;
    float depth(ivec2 at) {
      vec4 value = texelFetch(depths, clamp(at, ivec2(0), textureSize(depths, 0) - 1), 0);
      return value.a < .5 ? 1e3 : dot(round(value.rgb * 255.), vec3(65536., 256., 1.)) / 16777216. * 20.;
    }
    void main() {
      ivec2 at = ivec2(gl_FragCoord.xy);
      vec4 colour = texelFetch(picture, at, 0);
      float here = depth(at), sum = 0.;
      for (int i = 0; i < 8; i++) {
        float turn = 6.2831853 * float(i) / 8.;
        vec2 step_ = vec2(cos(turn), sin(turn));
        sum += max(0., here - depth(at + ivec2(round(step_ * reach))));
        sum += .5 * max(0., here - depth(at + ivec2(round(step_ * reach * 2.5))));
      }
      result = vec4(colour.a < .5 ? space : colour.rgb * max(.28, exp(-strength * min(sum, 12.))), 1.);
    }`);

  const buffer = (data, location, size, type, normalised) => {
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, type, normalised, 0, 0);
  };
  const cloud = {};
  for (const mode of scene.modes) {
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    if (!cloud.place) {
      cloud.place = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, cloud.place);
      gl.bufferData(gl.ARRAY_BUFFER, place, gl.STATIC_DRAW);
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, cloud.place);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.UNSIGNED_SHORT, true, 0, 0);
    if (mode.rgb) buffer(codes[mode.by], 3, 3, gl.UNSIGNED_BYTE, true);
    else buffer(codes[mode.by], 1, 1, gl.UNSIGNED_BYTE, false);
    buffer(codes.class, 2, 1, gl.UNSIGNED_BYTE, false);
    cloud[mode.by] = array;
  }
  const quad = gl.createVertexArray();
  gl.bindVertexArray(quad);
  buffer(new Float32Array([0, 0, 0, 2, 0, 0, 0, 2, 0]), 0, 3, gl.FLOAT, false);

  const texture = (width, height, data) => {
    const made = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, made);
    for (const key of ['MIN_FILTER', 'MAG_FILTER']) gl.texParameteri(gl.TEXTURE_2D, gl['TEXTURE_' + key], gl.NEAREST);
    for (const key of ['WRAP_S', 'WRAP_T']) gl.texParameteri(gl.TEXTURE_2D, gl['TEXTURE_' + key], gl.CLAMP_TO_EDGE);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, data || null);
    return made;
  };
  const tables = {};
  const colours = {};
  for (const mode of scene.modes) {
    colours[mode.by] = mode.table ? Uint8Array.from(atob(mode.table), letter => letter.charCodeAt(0))
      : new Uint8Array(768);
    tables[mode.by] = texture(256, 1, null);
  }
  const fill = by => {
    const data = new Uint8Array(1024);
    for (let i = 0; i < 256; i++) {
      for (let c = 0; c < 3; c++) data[4 * i + c] = colours[by][3 * i + c];
      data[4 * i + 3] = hidden[by].has(i) ? 0 : 255;
    }
    gl.bindTexture(gl.TEXTURE_2D, tables[by]);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 256, 1, gl.RGBA, gl.UNSIGNED_BYTE, data);
  };
  scene.modes.forEach(mode => fill(mode.by));

  let target = null;
  const resize = () => {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (target && target.width === width && target.height === height) return;
    if (target) {
      for (const made of [target.picture, target.depths]) gl.deleteTexture(made);
      gl.deleteRenderbuffer(target.buffer); gl.deleteFramebuffer(target.frame);
    }
    canvas.width = width; canvas.height = height;
    target = { width, height, ratio, picture: texture(width, height), depths: texture(width, height),
               frame: gl.createFramebuffer(), buffer: gl.createRenderbuffer() };
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, target.picture, 0);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT1, gl.TEXTURE_2D, target.depths, 0);
    gl.bindRenderbuffer(gl.RENDERBUFFER, target.buffer);
    gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT24, width, height);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, target.buffer);
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
  };

  // ---- camera: orbits around a focus; metres, z up
  const span = scene.high.map((value, axis) => value - scene.low[axis]);
  const FIELD = 40 * Math.PI / 180;
  const camera = {};
  const reset = top => {
    const aspect = canvas.clientWidth * (1 - aside()) / Math.max(canvas.clientHeight, 1);
    const radius = .5 * Math.hypot(span[0], span[1]);
    Object.assign(camera, {
      focus: [0, 1, 2].map(axis => axis === 2 ? scene.low[2] + .2 * span[2] : scene.low[axis] + .5 * span[axis]),
      azimuth: top ? 0 : .55, elevation: top ? Math.PI / 2 : .62,
      distance: radius / Math.tan(FIELD / 2) / Math.min(1, aspect) * (top ? 1.0 : .92) });
    draw();
  };
  const axes = () => {
    const [a, e] = [camera.azimuth, camera.elevation];
    const right = [Math.cos(a), Math.sin(a), 0];
    const back = [Math.sin(a) * Math.cos(e), -Math.cos(a) * Math.cos(e), Math.sin(e)];
    const up = [-Math.sin(a) * Math.sin(e), Math.cos(a) * Math.sin(e), Math.cos(e)];
    return { right, up, back };
  };
  // what the panel covers: a strip on the left, on a phone one above
  const aside = () => canvas.clientWidth > 640 ? $('#panel').getBoundingClientRect().right / canvas.clientWidth : 0;
  const above = () => canvas.clientWidth > 640 ? 0 : $('#panel').getBoundingClientRect().bottom / canvas.clientHeight;
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const matrices = () => {
    const { right, up, back } = axes();
    const eye = camera.focus.map((value, axis) => value + back[axis] * camera.distance);
    const view = new Float32Array([
      right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0,
      -dot(right, eye), -dot(up, eye), -dot(back, eye), 1]);
    const f = 1 / Math.tan(FIELD / 2), aspect = target.width / target.height;
    const reach = Math.hypot(...span) + camera.distance, near = Math.max(camera.distance / 500, .05), far = reach * 2;
    const projection = new Float32Array([
      f / aspect, 0, 0, 0, 0, f, 0, 0, -aside(), above(), (far + near) / (near - far), -1,
      0, 0, 2 * far * near / (near - far), 0]);
    return { view, projection, f };
  };

  // ---- drawing
  let mode = scene.modes[0], waiting = false, pointSize = 1, lighting = 1;
  function draw() { if (!waiting) { waiting = true; requestAnimationFrame(frame); } }
  const hex = text => [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16) / 255);
  function frame() {
    waiting = false;
    resize();
    const { view, projection, f } = matrices();
    const pixels = target.height * f / 2;                    // of one metre at one metre
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.viewport(0, 0, target.width, target.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(points.made);
    gl.uniform3fv(points.uniforms.low, scene.low);
    gl.uniform3fv(points.uniforms.span, span);
    gl.uniformMatrix4fv(points.uniforms.view, false, view);
    gl.uniformMatrix4fv(points.uniforms.projection, false, projection);
    gl.uniform1f(points.uniforms.size, pixels * scene.spacing * 2.1 * pointSize);
    gl.uniform1f(points.uniforms.most, 40 * target.ratio);
    gl.uniform1i(points.uniforms.coloured, mode.rgb ? 1 : 0);
    gl.uniform1i(points.uniforms.table, 0);
    gl.uniform1i(points.uniforms.shown, 1);
    gl.activeTexture(gl.TEXTURE0); gl.bindTexture(gl.TEXTURE_2D, tables[mode.by]);
    gl.activeTexture(gl.TEXTURE1); gl.bindTexture(gl.TEXTURE_2D, tables.class);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindVertexArray(cloud[mode.by]);
    gl.drawArrays(gl.POINTS, 0, count);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, target.width, target.height);
    gl.disable(gl.DEPTH_TEST);
    gl.useProgram(shade.made);
    gl.uniform1i(shade.uniforms.picture, 0);
    gl.uniform1i(shade.uniforms.depths, 1);
    gl.uniform3fv(shade.uniforms.space, hex(getComputedStyle(root).getPropertyValue('--space').trim()));
    // the steps are in log2 of the distance: make them fractions of what is in view
    gl.uniform1f(shade.uniforms.strength, (mode.rgb ? .5 : 1) * lighting * 6);
    gl.uniform1f(shade.uniforms.reach, 1.5 * target.ratio);
    gl.activeTexture(gl.TEXTURE1); gl.bindTexture(gl.TEXTURE_2D, target.depths);
    gl.activeTexture(gl.TEXTURE0); gl.bindTexture(gl.TEXTURE_2D, target.picture);
    gl.bindVertexArray(quad);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    bar(canvas.clientHeight * f / 2 / camera.distance);
    $('#north svg').style.transform = `rotate(${camera.azimuth}rad)`;
  }
  function bar(pixels) {                                     // pixels a metre at the focus
    const wanted = 130 / pixels, power = 10 ** Math.floor(Math.log10(wanted));
    const metres = power * [5, 2, 1].find(step => step * power <= wanted * 1.0001);
    $('#bar span').textContent = metres >= 1000 ? `${metres / 1000} km` : `${+metres.toPrecision(1)} m`;
    $('#bar i').style.width = `${metres * pixels}px`;
  }

"""
