// One direction of a layer over all its steps.
//
// Every thread owns some units. For them it takes the input's products some steps ahead of the recurrence, the
// recurrent products and the pointwise arithmetic; all threads meet once a phase, for the next products need every unit.
#pragma once

#include "common.hpp"

namespace recurra::RECURRA_ISA {

// Rows of input products that are taken at once: enough for full tiles, few enough to stay in the second cache.
constexpr int kAhead = 192;

template <class T> class Forward {
 public:
  // `keep`: it will run again and again on the same weights.
  Forward(const Layer& layer, const CellFunctions& functions, bool keep = false)
      : layer_(layer),
        plan_(*layer.plan),
        functions_(functions),
        clock_(layer),
        zoneout_(layer),
        keep_(keep),
        width_(width_for<T>(layer, layer.batch)),
        tiled_(width_ == Width::kTiled),
        input_width_(keep ? width_ : width_for<T>(layer, clock_.total())),
        blocks_(blocks_of(layer.hidden, W)),
        projected_blocks_(blocks_of(layer.projected, W)),
        padded_(padded_units(layer.hidden)),
        projected_padded_(padded_units(layer.projected)),
        row_(plan_.kept * padded_) {
    ahead_ = keep ? layer.batch : max<std::ptrdiff_t>(kAhead, layer.batch);
    panels_ = workspace_.count<T>(packed_terms() * blocks_ * W);
    block_ = workspace_.count<T>(std::size_t(max(1, layer.threads)) * kBlockSize);
    bias_ = workspace_.count<T>(plan_.slots * padded_);
    vectors_ = workspace_.count<T>(plan_.vectors * padded_);
    slots_ = layer.kept ? 0 : workspace_.count<T>(ahead_ * row_);
    for (std::size_t q = 0; q < plan_.operand_phase.size(); ++q)
      operands_[q] = layer.kept ? 0 : workspace_.count<T>(layer.batch * padded_);
    for (int s = 0; s < plan_.states; ++s)
      if (layer.states[s].data == nullptr && alternates(s))
        alternating_[s] = workspace_.count<T>(2 * layer.batch * layer.width(s));
    if (layer.mask != nullptr) masked_ = workspace_.count<T>(2 * layer.batch * padded_);
    if (layer.projected > 0) {
      projection_ = workspace_.count<T>(max(layer.hidden, depth(width_, layer.hidden)) * projected_blocks_ * W);
      projected_ = workspace_.count<T>(layer.batch * projected_padded_);
      if (layer.unprojected == nullptr) unprojected_ = workspace_.count<T>(layer.batch * padded_);
    }
    if (tiled_) plan_halves();
    workspace_.take(keep);
    if (layer.kept) prefer_large_pages(layer.kept, clock_.total() * row_ * sizeof(T));
  }

  bool run(int threads) {
    threads = max(1, min(threads, blocks_));
    if (prepared_ && threads == 1) {
      // One thread takes over what several have packed, for the weights may be gone.
      Local& first = locals_[0];
      std::size_t groups = 0, strips = 0;
      for (const Local& local : locals_) {
        groups += local.groups.size();
        strips += local.projection.size();
      }
      first.groups.reserve(groups);
      first.projection.reserve(strips);
      for (std::size_t other = 1; other < locals_.size(); ++other) {
        for (Group& group : locals_[other].groups) first.groups.push_back(static_cast<Group&&>(group));
        for (const Strip<T>& strip : locals_[other].projection) first.projection.push_back(strip);
      }
      locals_.resize(1);
    } else if (!prepared_ || static_cast<int>(locals_.size()) != threads) {
      // Also after a call that failed halfway.
      locals_.clear();
      locals_.resize(threads);
      prepared_ = false;
    }
    const bool done = run_team(threads, [&](int thread, Barrier& barrier) {
      Local& local = locals_[thread];
      local.share = share_of(blocks_, thread, threads);
      local.projected = share_of(projected_blocks_, thread, threads);
      work(local, thread, barrier);
    });
    prepared_ |= done;
    return done;
  }

 private:
  static constexpr int W = kWidth<T>;
  static constexpr Source kSources[] = {kInput, kState, kOperand};
  static constexpr std::size_t kBlockSize = std::size_t(kBlock) * kTileVectors * W;

  // Products of one phase on one source, for one group of units.
  struct Segment {
    Source source;
    int index, phase, terms;
    bool masked;
    List<Column<T>> columns;
    List<Strip<T>> strips;
  };
  struct Group {
    int begin, blocks, tail;
    List<Segment> segments;
  };
  // What one thread works with.
  struct Local {
    Share share, projected;
    unsigned passes = 0;  // over the groups
    List<Group> groups;
    List<Strip<T>> projection;
    List<const T*> rows;
    Halves input;
    List<T*> unprojected;
    // Of the states that a step starts from and makes, and that the next will start from, which differ by resets.
    List<T*> old_rows[kMaxStates], new_rows[kMaxStates], next_rows[kMaxStates];
  };

  // Whether a state's old value is still read when its new one is written, so that it cannot be renewed in its place.
  bool alternates(int s) const { return zoneout_.on() || multiplied(kState, s); }

  bool multiplied(Source source, int index) const {
    for (const Product& product : plan_.products)
      if (product.source == source && product.index == index) return true;
    return false;
  }

  // For matrix tiles: what is multiplied, in bfloat16. Of a state two buffers, of which a step reads one and writes the other.
  void plan_halves() {
    for (int s = 0; s < plan_.states; ++s)
      if (multiplied(kState, s)) state_halves_[s] = workspace_.count<std::uint16_t>(2 * Halves::size(layer_.batch, layer_.width(s)));
    for (std::size_t q = 0; q < plan_.operand_phase.size(); ++q)
      operand_halves_[q] = workspace_.count<std::uint16_t>(Halves::size(layer_.batch, layer_.hidden));
    if (layer_.projected > 0) unprojected_halves_ = workspace_.count<std::uint16_t>(Halves::size(layer_.batch, layer_.hidden));
    input_halves_ = workspace_.count<std::uint16_t>(max(1, layer_.threads) * Halves::size(ahead_, layer_.input_size));
  }

  Halves halves(std::size_t at, std::ptrdiff_t rows, std::ptrdiff_t terms, std::ptrdiff_t nth = 0) const {
    return {workspace_.at<std::uint16_t>(at) + nth * Halves::size(rows, terms), Halves::deep_for(terms)};
  }
  // A state as left by step j.
  Halves state_halves(int s, std::ptrdiff_t j) const { return halves(state_halves_[s], layer_.batch, layer_.width(s), j % 2 != 0); }
  Halves operand_halves(std::size_t q) const { return halves(operand_halves_[q], layer_.batch, layer_.hidden); }
  Halves unprojected_halves() const { return halves(unprojected_halves_, layer_.batch, layer_.hidden); }

  // Some units of a state after step j, for the products of the next.
  void narrow_state(int s, std::ptrdiff_t j, const List<T*>& rows, int begin, int end, int n) const {
    if (!tiled_ || !multiplied(kState, s)) return;
    const bool mask = s == 0 && layer_.mask != nullptr;
    narrow_units<T>(state_halves(s, j), [&](int r) { return rows[r]; }, begin, end, layer_.width(s), n,
                    [&](int r) -> const T* { return mask ? clock_.template at<T>(layer_.mask, 0, r) : nullptr; });
  }
  Share share_of_state(const Local& local, int s) const { return s == 0 && layer_.projected > 0 ? local.projected : local.share; }

  void work(Local& local, int thread, Barrier& barrier) {
    const UsesTiles uses(tiled_);
    if (!prepared_) prepare(local, thread);
    start(local);
    if (tiled_) {
      local.input = halves(input_halves_, ahead_, layer_.input_size, thread);
      for (int s = 0; s < plan_.states; ++s)
        for (int turn = 0; turn < 2; ++turn) {
          const Share share = share_of_state(local, s);
          narrow_state(s, turn, local.old_rows[s], share.begin, share.end, static_cast<int>(layer_.batch));
        }
      barrier.wait();
    }
    if (layer_.mask != nullptr && !tiled_) {
      for (const Group& group : local.groups)
        for (int turn = 0; turn < 2; ++turn) mask_rows(group, local.old_rows[0].data(), nullptr, masked_rows(turn), layer_.batch);
      barrier.wait();
    }
    for (std::ptrdiff_t j = 0; j < layer_.steps;) {
      std::ptrdiff_t end = j, rows = 0;
      while (end < layer_.steps && (end == j || rows + clock_.rows(clock_.time(end)) <= ahead_))
        rows += clock_.rows(clock_.time(end++));
      input_products(local, j, end);
      std::ptrdiff_t row = 0;
      for (; j < end; ++j) {
        step(local, j, row, barrier);
        row += clock_.rows(clock_.time(j));
      }
    }
    finish(local);
  }

  // Whether weights are read only once, so that packing them all beforehand would cost more than it saves.
  bool once(const Product& product) const {
    if (keep_) return false;
    return product.source == kInput ? clock_.total() <= ahead_ : layer_.steps <= 1;
  }

  Width width_of(int source) const { return source == kInput ? input_width_ : width_; }

  std::ptrdiff_t packed_terms() const {
    std::ptrdiff_t terms = 0;
    for (const Product& product : plan_.products)
      if (!once(product)) terms += depth(width_of(product.source), terms_of(layer_, product));
    return terms;
  }

  // Pack this thread's weights, and copy what is read beyond its end into padded memory.
  void prepare(Local& local, int thread) {
    const Share share = local.share;
    T* panel = workspace_.at<T>(panels_) + packed_terms() * share.begin * W;
    const int together = plan_.slots % kTileVectors == 0 ? 1 : 4;
    for (int b = share.begin; b < share.end; b += together) {
      Group group{b, min(together, share.end - b), W, {}};
      if (b + group.blocks == blocks_) group.tail = lanes(layer_.hidden, blocks_ - 1, W);
      local.groups.push_back(static_cast<Group&&>(group));
    }
    // Source by source, so that the panels of one phase follow one another in memory from group to group.
    for (const Source source : kSources)
      for (Group& group : local.groups) panel = pack(group, source, panel, workspace_.at<T>(block_) + thread * kBlockSize);
    if (layer_.projected > 0) pack_projection(local);
    for (int block = share.begin; block < share.end; ++block) {
      const int width = lanes(layer_.hidden, block, W);
      const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
      for (int v = 0; v < plan_.vectors; ++v)
        store(workspace_.at<T>(vectors_) + v * padded_ + unit, load_first(static_cast<T*>(layer_.vectors[v]) + unit, width));
      if (layer_.bias_ih == nullptr) continue;
      for (int s = 0; s < plan_.slots; ++s) store(workspace_.at<T>(bias_) + s * padded_ + unit, Vec<T>{});
      for (const Product& product : plan_.products) {
        if (product.matrix > 1) continue;
        const void* bias = product.matrix == 0 ? layer_.bias_ih : layer_.bias_hh;
        T* total = workspace_.at<T>(bias_) + product.slot * padded_ + unit;
        store(total, load(total) + load_first(static_cast<const T*>(bias) + product.gate * layer_.hidden + unit, width));
      }
    }
  }

  T* pack(Group& group, Source source, T* panel, T* block) {
    for (const Product& first : plan_.products) {
      bool done = first.source != source;
      for (const Segment& segment : group.segments)
        done |= segment.source == first.source && segment.index == first.index && segment.phase == first.phase;
      if (done) continue;
      const int terms = terms_of(layer_, first);
      Segment segment{static_cast<Source>(first.source), first.index, first.phase, terms, masked(layer_, first), {}, {}};
      List<Column<T>>& columns = segment.columns;
      for (const Product& product : plan_.products) {
        if (product.source != first.source || product.index != first.index || product.phase != first.phase) continue;
        for (int block = group.begin; block < group.begin + group.blocks; ++block) {
          const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
          columns.push_back(column_of<T>(layer_, layer_.weights[product.matrix], (product.gate * layer_.hidden + unit) * terms,
                                         lanes(layer_.hidden, block, W), product.slot * padded_ + unit));
        }
      }
      T* const after = cut(columns, terms, width_of(source), panel, segment.strips);
      const Column<T>* column = columns.data();
      for (Strip<T>& strip : segment.strips) {
        if (once(first)) {
          strip.panel = block;
          strip.unpacked = column;
        } else {
          for (int v = 0; v < strip.vectors; ++v) pack_rows(strip, v, column[v], terms, terms);
        }
        column += strip.vectors;
      }
      if (!once(first)) panel = after;
      group.segments.push_back(static_cast<Segment&&>(segment));
    }
    return panel;
  }

  void pack_projection(Local& local) {
    const int terms = static_cast<int>(layer_.hidden);
    List<Column<T>> columns;
    for (int block = local.projected.begin; block < local.projected.end; ++block) {
      const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
      columns.push_back(column_of<T>(layer_, layer_.weight_hr, unit * terms, lanes(layer_.projected, block, W), unit));
    }
    local.projection.clear();
    T* panel = workspace_.at<T>(projection_) + depth(width_, terms) * local.projected.begin * W;
    cut(columns, terms, width_, panel, local.projection);
    const Column<T>* column = columns.data();
    for (const Strip<T>& strip : local.projection)
      for (int v = 0; v < strip.vectors; ++v) pack_rows(strip, v, *column++, terms, terms);
  }

  // What this thread copies of a row of a state.
  void copy(const Local& local, int s, T* to, const T* from) const {
    const Share share = share_of_state(local, s);
    const std::ptrdiff_t unit = std::ptrdiff_t(share.begin) * W;
    const std::ptrdiff_t end = min<std::ptrdiff_t>(layer_.width(s), std::ptrdiff_t(share.end) * W);
    if (end > unit) std::memcpy(to + unit, from + unit, sizeof(T) * (end - unit));
  }

  // Row addresses of the states before the first step.
  void start(Local& local) {
    const int batch = static_cast<int>(layer_.batch);
    local.rows.resize(max<std::ptrdiff_t>(ahead_, batch));
    if (layer_.projected > 0) local.unprojected.resize(batch);
    for (int s = 0; s < plan_.states; ++s) {
      local.old_rows[s].resize(batch);
      local.new_rows[s].resize(batch);
      if (clock_.resets()) local.next_rows[s].resize(batch);
      for (int r = 0; r < batch; ++r) {
        local.old_rows[s][r] = clock_.template at<T>(layer_.initial[s], s, r);
        if (layer_.states[s].data != nullptr) continue;
        if (alternates(s)) {
          local.new_rows[s][r] = workspace_.at<T>(alternating_[s]) + r * layer_.width(s);
        } else {
          // Nobody else reads it, so it is renewed in its place.
          T* place = clock_.template at<T>(layer_.final[s], s, r);
          copy(local, s, place, local.old_rows[s][r]);
          local.old_rows[s][r] = local.new_rows[s][r] = place;
        }
      }
      for (int r = 0; clock_.resets() && r < batch; ++r)
        if (clock_.reset(0, r)) local.old_rows[s][r] = static_cast<T*>(layer_.restart[s]);
    }
  }

  T* slots_of(std::ptrdiff_t j, std::ptrdiff_t row) const {
    if (layer_.kept == nullptr) return workspace_.at<T>(slots_) + row * row_;
    return static_cast<T*>(layer_.kept) + clock_.before(clock_.time(j)) * row_;
  }

  // W x + b of the steps from j to end.
  void input_products(Local& local, std::ptrdiff_t j, std::ptrdiff_t end) {
    // Kept rows lie in the order of time, and so backwards when time runs backwards.
    const bool backwards = layer_.kept != nullptr && layer_.reverse;
    const std::ptrdiff_t first = backwards ? end - 1 : j;
    int n = 0;
    for (std::ptrdiff_t i = 0; i < end - j; ++i) {
      const std::ptrdiff_t t = clock_.time(backwards ? end - 1 - i : j + i);
      for (int r = 0; r < clock_.rows(t); ++r) local.rows[n++] = clock_.template at<T>(layer_.input, t, r);
    }
    T* slots = slots_of(first, 0);
    const T* bias = layer_.bias_ih ? workspace_.at<T>(bias_) : nullptr;
    if (tiled_) narrow_rows<T>(local.input, local.rows.data(), n, layer_.input_size);
    for (const Group& group : local.groups) {
      fill(group, slots, n, bias);
      for (const Segment& segment : group.segments)
        if (segment.source == kInput && tiled_)
          multiply<T>(segment.strips.data(), static_cast<int>(segment.strips.size()), segment.terms, local.input, n, slots,
                      row_, bias, 0);
        else if (segment.source == kInput)
          multiply<T>(segment.strips.data(), static_cast<int>(segment.strips.size()), segment.terms, local.rows.data(), n,
                      slots, row_, bias, 0);
    }
  }

  // Slots that take no input start from their bias alone.
  void fill(const Group& group, T* slots, int n, const T* bias) const {
    for (int s = 0; s < plan_.slots; ++s) {
      bool has_input = false;
      for (const Product& product : plan_.products) has_input |= product.slot == s && product.source == kInput;
      if (has_input && layer_.input_size > 0) continue;
      for (int r = 0; r < n; ++r)
        for (int block = group.begin; block < group.begin + group.blocks; ++block) {
          const std::ptrdiff_t at = s * padded_ + std::ptrdiff_t(block) * W;
          store(slots + r * row_ + at, bias ? load(bias + at) : Vec<T>{});
        }
    }
  }

  void step(Local& local, std::ptrdiff_t j, std::ptrdiff_t row, Barrier& barrier) {
    const std::ptrdiff_t t = clock_.time(j);
    const int n = clock_.rows(t);
    T* slots = slots_of(j, row);
    for (int s = 0; s < plan_.states; ++s)
      if (layer_.states[s].data != nullptr)
        for (int r = 0; r < n; ++r) local.new_rows[s][r] = clock_.template at<T>(layer_.states[s], t, r);
    for (int s = 0; clock_.resets() && s < plan_.states; ++s)
      for (int r = 0; r < n; ++r)
        local.next_rows[s][r] = clock_.reset(j + 1, r) ? static_cast<T*>(layer_.restart[s]) : local.new_rows[s][r];
    List<T*>* const next_rows = clock_.resets() ? local.next_rows : local.new_rows;
    Tile<T> tile{};
    tile.rows = n;
    tile.slot = padded_;
    tile.slot_row = row_;
    tile.padded_row = padded_;
    for (int s = 0; s < plan_.states; ++s) {
      tile.old_state[s] = local.old_rows[s].data();
      tile.new_state[s] = local.new_rows[s].data();
    }
    if (layer_.projected > 0) {
      T* base = layer_.unprojected ? static_cast<T*>(layer_.unprojected) + clock_.before(t) * padded_
                                   : workspace_.at<T>(unprojected_);
      for (int r = 0; r < n; ++r) local.unprojected[r] = base + r * padded_;
      tile.new_state[0] = local.unprojected.data();
    }
    for (int v = 0; v < plan_.vectors; ++v) tile.vectors[v] = workspace_.at<T>(vectors_) + v * padded_;
    for (std::size_t q = 0; q < plan_.operand_phase.size(); ++q) tile.operands[q] = operand(q, t);
    for (int phase = 0; phase < plan_.phases; ++phase) {
      const void* function = (layer_.kept ? functions_.training : functions_.forward)[phase];
      const Turns turns(local.passes++, local.groups.size());
      for (std::size_t nth = 0; nth < local.groups.size(); ++nth) {
        const Group& group = local.groups[turns[nth]];
        for (const Segment& segment : group.segments) {
          if (segment.source == kInput || segment.phase != phase) continue;
          if (tiled_) {
            const Halves from = segment.source == kOperand ? operand_halves(segment.index) : state_halves(segment.index, j + 1);
            multiply<T>(segment.strips.data(), static_cast<int>(segment.strips.size()), segment.terms, from, n, slots, row_,
                        slots, row_, first_panel(local.groups[turns.after(nth)], phase));
            continue;
          }
          const T* const* rows = local.old_rows[segment.index].data();
          if (segment.source == kOperand || segment.masked) {
            const T* base = segment.source == kOperand ? tile.operands[segment.index] : masked_rows(j + 1);
            for (int r = 0; r < n; ++r) local.rows[r] = base + r * padded_;
            rows = local.rows.data();
          }
          multiply<T>(segment.strips.data(), static_cast<int>(segment.strips.size()), segment.terms, rows, n, slots, row_,
                      slots, row_, first_panel(local.groups[turns.after(nth)], phase));
        }
        tile.blocks = group.blocks;
        tile.tail = group.tail;
        tile.unit = std::ptrdiff_t(group.begin) * W;
        tile.slots = slots + tile.unit;
        reinterpret_cast<Pointwise<T>>(const_cast<void*>(function))(tile);
        for (std::size_t q = 0; layer_.mask != nullptr && q < plan_.operand_phase.size(); ++q)
          if (plan_.operand_phase[q] == phase) mask_rows(group, nullptr, tile.operands[q], tile.operands[q], n);
        const int end = group.begin + group.blocks;
        for (std::size_t q = 0; tiled_ && q < plan_.operand_phase.size(); ++q)
          if (plan_.operand_phase[q] == phase)
            narrow_units<T>(operand_halves(q), [&](int r) { return tile.operands[q] + r * padded_; }, group.begin, end,
                            layer_.hidden, n, no_mask<T>);
        if (phase + 1 < plan_.phases) continue;
        if (zoneout_.on()) zone_out(local, group, t, n);
        if (tiled_ && layer_.projected > 0)
          narrow_units<T>(unprojected_halves(), [&](int r) { return local.unprojected[r]; }, group.begin, end, layer_.hidden, n,
                          no_mask<T>);
        for (int s = layer_.projected > 0 ? 1 : 0; s < plan_.states; ++s)
          narrow_state(s, j, next_rows[s], group.begin, end, n);
        if (layer_.mask != nullptr && !tiled_) mask_rows(group, next_rows[0].data(), nullptr, masked_rows(j), n);
      }
      barrier.wait();
    }
    if (layer_.projected > 0) {
      project(local, n);
      narrow_state(0, j, next_rows[0], local.projected.begin, local.projected.end, n);
      barrier.wait();
    }
    for (int s = 0; s < plan_.states; ++s) {
      const bool turns = layer_.states[s].data == nullptr && alternates(s);
      if (layer_.states[s].data == nullptr && !turns && !clock_.resets()) continue;
      for (int r = 0; r < n; ++r) {
        T* const written = local.new_rows[s][r];
        local.old_rows[s][r] = next_rows[s][r];
        // Two buffers take turns.
        if (turns) {
          T* first = workspace_.at<T>(alternating_[s]) + r * layer_.width(s);
          local.new_rows[s][r] = written == first ? first + layer_.batch * layer_.width(s) : first;
        }
      }
    }
  }

  // With which a group begins a phase.
  static const T* first_panel(const Group& group, int phase) {
    for (const Segment& segment : group.segments)
      if (segment.source != kInput && segment.phase == phase) return segment.strips[0].panel;
    return nullptr;
  }

  // The new h from h before the projection.
  void project(Local& local, int n) {
    T* to = workspace_.at<T>(projected_);
    const int count = static_cast<int>(local.projection.size()), terms = static_cast<int>(layer_.hidden);
    if (tiled_) {
      multiply<T>(local.projection.data(), count, terms, unprojected_halves(), n, to, projected_padded_, nullptr, 0);
    } else {
      for (int r = 0; r < n; ++r) local.rows[r] = local.unprojected[r];
      multiply<T>(local.projection.data(), count, terms, local.rows.data(), n, to, projected_padded_, nullptr, 0);
    }
    for (int r = 0; r < n; ++r) copy(local, 0, local.new_rows[0][r], to + r * projected_padded_);
  }

  // Recurrent dropout of one group's units: from rows at addresses, or padded ones, to padded ones.
  void mask_rows(const Group& group, T* const* rows, const T* padded, T* to, std::ptrdiff_t n) const {
    for (int r = 0; r < n; ++r) {
      const T* mask = clock_.template at<T>(layer_.mask, 0, r);
      const T* from = rows ? rows[r] : padded + r * padded_;
      for (int block = group.begin; block < group.begin + group.blocks; ++block) {
        const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
        const int width = lanes(layer_.hidden, block, W);
        store(to + r * padded_ + unit, load_first(from + unit, width) * load_first(mask + unit, width));
      }
    }
  }

  // h times its mask, as left by step j; two buffers take turns, for a slower thread may still read the other.
  T* masked_rows(std::ptrdiff_t j) const {
    return workspace_.at<T>(masked_) + (j % 2 != 0 ? layer_.batch * padded_ : 0);
  }

  // Put back what zoneout keeps of the old states.
  void zone_out(const Local& local, const Group& group, std::ptrdiff_t t, int n) const {
    const std::ptrdiff_t begin = std::ptrdiff_t(group.begin) * W;
    const std::ptrdiff_t end = min<std::ptrdiff_t>(layer_.hidden, begin + std::ptrdiff_t(group.blocks) * W);
    for (int s = 0; s < plan_.states; ++s)
      for (int r = 0; r < n; ++r) {
        const unsigned char* mask = zoneout_.mask(clock_, s, t, r);
        const T* old = local.old_rows[s][r];
        T* fresh = local.new_rows[s][r];
        if (!layer_.candidates.empty()) {
          T* candidate = static_cast<T*>(layer_.candidates[s]) + (clock_.before(t) + r) * padded_;
          std::memcpy(candidate + begin, fresh + begin, sizeof(T) * (end - begin));
        }
        for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
          const T kept = zoneout_.share(mask, unit);
          // Not a sum of products where a mask decides: what is dropped may be infinite.
          fresh[unit] = kept == T(1) ? old[unit] : kept == T(0) ? fresh[unit] : kept * old[unit] + (T(1) - kept) * fresh[unit];
        }
      }
  }

  T* operand(std::size_t q, std::ptrdiff_t t) const {
    if (layer_.kept == nullptr) return workspace_.at<T>(operands_[q]);
    return static_cast<T*>(layer_.operands[q]) + clock_.before(t) * padded_;
  }

  void finish(const Local& local) {
    for (int s = 0; s < plan_.states; ++s)
      for (int r = 0; r < layer_.batch; ++r) {
        T* place = clock_.template at<T>(layer_.final[s], s, r);
        const T* last = local.old_rows[s][r];
        if (last != place) copy(local, s, place, last);
      }
  }

  const Layer& layer_;
  const CellPlan& plan_;
  const CellFunctions& functions_;
  const Clock clock_;
  const Zoneout<T> zoneout_;
  const bool keep_;
  const Width width_;
  const bool tiled_;
  const Width input_width_;
  const int blocks_, projected_blocks_;
  const std::ptrdiff_t padded_, projected_padded_, row_;
  std::ptrdiff_t ahead_;
  Workspace workspace_;
  List<Local> locals_;
  bool prepared_ = false;
  std::size_t panels_, block_, bias_, vectors_, slots_, operands_[kMaxOperands] = {}, alternating_[kMaxStates] = {}, masked_ = 0;
  std::size_t projection_ = 0, projected_ = 0, unprojected_ = 0;
  std::size_t state_halves_[kMaxStates] = {}, operand_halves_[kMaxOperands] = {}, unprojected_halves_ = 0, input_halves_ = 0;
};

}  // namespace recurra::RECURRA_ISA
