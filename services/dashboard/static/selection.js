// The selection: model, features, range, order, open tables. It is part of the address, so it can be shared.

const SELECTED_FEATURES_MAX = 4;
const TABLES = ["drift", "events", "performance", "decisions", "costs"];
const RANKS = ["latest", "peak", "name"];

export class Selection {
  constructor(changed) {
    this.changed = changed;
    this.read();
    addEventListener("hashchange", () => {
      if (location.hash === this.hash()) return;
      this.read();
      this.changed();
    });
  }

  read() {
    const fields = new URLSearchParams(location.hash.slice(1));
    this.model = fields.get("model");
    this.features = fields.getAll("feature").slice(0, SELECTED_FEATURES_MAX);
    this.rank = RANKS.includes(fields.get("rank")) ? fields.get("rank") : "latest";
    this.tables = new Set(fields.getAll("table").filter((name) => TABLES.includes(name)));
    this.range = this.#range(fields);
    this.threshold = fields.has("threshold") && Number(fields.get("threshold")) >= 0 ? Number(fields.get("threshold")) : null;
  }

  #range(fields) {
    const [from, to] = [Date.parse(fields.get("from")), Date.parse(fields.get("to"))];
    if (from < to) return { from, to };
    const days = Number(fields.get("last"));
    return days > 0 && days < 100_000 ? { last: days } : {};
  }

  hash() {
    const fields = new URLSearchParams();
    if (this.model) fields.set("model", this.model);
    for (const name of this.features) fields.append("feature", name);
    if (this.range.last) fields.set("last", String(this.range.last));
    if (this.range.from !== undefined) {
      fields.set("from", new Date(this.range.from).toISOString());
      fields.set("to", new Date(this.range.to).toISOString());
    }
    if (this.threshold !== null) fields.set("threshold", String(this.threshold));
    if (this.rank !== "latest") fields.set("rank", this.rank);
    for (const name of this.tables) fields.append("table", name);
    const text = fields.toString();
    return text ? `#${text}` : "";
  }

  update(changes) {
    Object.assign(this, changes);
    history.replaceState(null, "", location.pathname + location.search + this.hash());
    this.changed();
  }

  choose(feature, add) {
    const chosen = this.features.includes(feature);
    if (!add) return this.update({ features: chosen && this.features.length === 1 ? [] : [feature] });
    const others = this.features.filter((name) => name !== feature);
    return this.update({ features: chosen ? others : [...others, feature].slice(-SELECTED_FEATURES_MAX) });
  }

  toggleTable(name) {
    const tables = new Set(this.tables);
    if (!tables.delete(name)) tables.add(name);
    this.update({ tables });
  }
}
