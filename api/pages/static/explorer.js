// Draws the charts of a page with uPlot, from the figures of its block of JSON. Without it, the page has them as tables.
"use strict";

(() => {
  const block = document.getElementById("chart-data");
  const place = document.getElementById("charts");
  if (!block || !place || !window.uPlot) return;
  const data = JSON.parse(block.textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const reading = document.documentElement.lang;
  let charts = [];

  const color = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const two = number => String(number).padStart(2, "0");
  const plain = value => value == null ? "–" : value.toLocaleString(reading, { maximumSignificantDigits: 7 });
  const compact = value => value.toLocaleString(reading, { notation: Math.abs(value) >= 1e5 ? "compact" : "standard", maximumSignificantDigits: 6 });

  const clock = (seconds, long) => {
    const time = new Date(seconds * 1000);
    const day = `${two(time.getUTCMonth() + 1)}-${two(time.getUTCDate())}`;
    const text = `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
    if (long) return `${day} ${text}:${two(time.getUTCSeconds())}`;
    return text === "00:00" ? day : text;
  };

  const axis = (more = {}) => ({
    stroke: color("soft"), font: "12px system-ui, sans-serif", ticks: { show: false },
    grid: { stroke: color("grid"), width: 1 }, ...more,
  });
  const axes = (...values) => [
    axis({ values: (_, splits) => splits.map(at => clock(at, false)), incrs: [60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800], space: 60, size: 30 }),
    ...values,
  ];
  const amounts = (more = {}) => axis({ size: (_, texts) => 20 + 7 * Math.max(3, ...(texts || []).map(text => text.length)), values: (_, splits) => splits.map(compact), ...more });

  const options = (element, series, more) => ({
    width: element.clientWidth, height: heightOf(element),
    cursor: { sync: { key: "time" }, drag: { x: true, y: false }, points: { size: 6 } },
    legend: { markers: { width: 0, fill: (_, at) => series[at - 1]?.mark } },
    tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    ...more,
    scales: { x: { time: true, range: () => [data.from, data.to] }, ...more.scales },
    series: [{ label: "Time", value: (_, at) => at == null ? "–" : clock(at, true) }, ...series],
  });

  // Without the legend, whose height depends on how many lines it needs.
  const heightOf = element => parseInt(getComputedStyle(element).getPropertyValue("--height"), 10);
  const noPath = { paths: () => null, points: { show: false } };
  const value = (_, one) => plain(one);

  // Where a price is on the canvas; bodies and wicks of candles, and lines over the whole width.
  const drawPrices = chart => {
    const { ctx, bbox } = chart;
    const ratio = devicePixelRatio;
    const width = Math.max(1, (chart.valToPos(data.from + data.step, "x", true) - chart.valToPos(data.from, "x", true)) * .7);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    data.time.forEach((time, at) => {
      if (data.open[at] == null) return;
      const [open, high, low, close] = ["open", "high", "low", "close"].map(name => chart.valToPos(data[name][at], "y", true));
      const middle = chart.valToPos(time + data.step / 2, "x", true);
      ctx.fillStyle = color(data.close[at] >= data.open[at] ? "up" : "down");
      ctx.fillRect(middle - ratio / 2, high, ratio, Math.max(ratio, low - high));
      ctx.fillRect(middle - width / 2, Math.min(open, close), width, Math.max(ratio, Math.abs(close - open)));
    });
    lines().forEach(([, price, name, dash]) => {
      const y = chart.valToPos(price, "y", true);
      ctx.strokeStyle = color(name);
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash(dash.map(one => one * ratio));
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    });
    ctx.restore();
  };
  const lines = () => Object.entries(data.lines || {}).filter(([, price]) => price != null)
    .map(([label, price], at) => [label, price, ...({ Arrival: ["arrival", [2, 3]], "VWAP of the TWAP": ["vwap", [7, 4]], "VWAP of the market": ["market", [7, 4]] })[label]]);

  // Many slices are small dots without a rim, which would cover the candles.
  const isCrowded = () => data.slices[0].length > 250;

  const makers = {
    price(element) {
      const own = data.slices ? [[data.slices[0], data.slices[1]]] : [];
      const columns = uPlot.join([[data.time, data.open, data.high, data.low, data.close], ...own]);
      // Constant lines are in the legend, and in the range of the scale.
      const flat = lines().map(([, price]) => columns[0].map(() => price));
      const series = ["Open", "High", "Low", "Close"].map(label => ({ label, value, ...noPath }));
      if (own.length) series.push({ label: "Slice", value, paths: () => null, mark: color("own"), points: { show: true, fill: color("own"), ...(isCrowded() ? { size: 3, width: 0, stroke: color("own") } : { size: 7, width: 1, stroke: color("card") }) } });
      lines().forEach(([label, price, name]) => series.push({ label, value: () => plain(price), mark: color(name), ...noPath }));
      return new uPlot(options(element, series, { axes: axes(amounts()), hooks: { drawAxes: [drawPrices] } }), [...columns, ...flat], element);
    },
    progress(element) {
      const [times, , sizes] = data.slices;
      let sum = 0;
      const tables = [[times, sizes.map(size => sum += size)]];
      const series = [{ label: "Executed", value, stroke: color("own"), mark: color("own"), width: 2, spanGaps: true, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }];
      if (data.schedule) {
        tables.push([data.schedule.map(one => one[0]), data.schedule.map(one => one[1])]);
        series.push({ label: "Straight schedule", value, stroke: color("arrival"), mark: color("arrival"), width: 1.5, dash: [6, 4], spanGaps: true, points: { show: false } });
      }
      return new uPlot(options(element, series, { axes: axes(amounts()) }), uPlot.join(tables), element);
    },
    share(element) {
      const bars = { paths: uPlot.paths.bars({ size: [.8, 60], align: 1 }), points: { show: false } };
      const series = [
        { label: "Market", value, fill: color("volume"), mark: color("volume"), ...bars },
        { label: "This TWAP", value, fill: color("own"), mark: color("own"), ...bars },
        { label: "Share", scale: "%", value: (_, one) => one == null ? "–" : `${one.toFixed(2)} %`, ...noPath },
      ];
      return new uPlot(options(element, series, { axes: axes(amounts()), scales: { y: { range: (_, low, high) => [0, high * 1.05 || 1] } } }), [data.time, data.volume, data.own, data.share], element);
    },
    volume(element) {
      const series = [{ label: "Volume", value, fill: color("volume"), mark: color("volume"), paths: uPlot.paths.bars({ size: [.8, 60], align: 1 }), points: { show: false } }];
      return new uPlot(options(element, series, { axes: axes(amounts()), scales: { y: { range: (_, low, high) => [0, high * 1.05 || 1] } } }), [data.time, data.volume], element);
    },
    flow(element) {
      const series = [{ label: "Net still to come", value, fill: color("market"), mark: color("market"), paths: uPlot.paths.bars({ size: [.6, 60], align: 1 }), points: { show: false } }];
      return new uPlot(options(element, series, { axes: axes(amounts()), scales: { y: { range: (_, low, high) => [Math.min(0, low * 1.1), Math.max(0, high * 1.1) || 1] } } }), [data.flow.time, data.flow.net], element);
    },
  };

  const draw = () => {
    charts.forEach(([chart]) => chart.destroy());
    charts = [...place.querySelectorAll("[data-chart]")].map(element => [makers[element.dataset.chart](element), element]);
  };
  place.hidden = false;
  draw();
  document.querySelectorAll("details[data-closes]").forEach(details => { details.open = false; });
  dark.addEventListener("change", draw);
  new ResizeObserver(() => charts.forEach(([chart, element]) => {
    if (element.clientWidth !== chart.width) chart.setSize({ width: element.clientWidth, height: heightOf(element) });
  })).observe(place);
})();
