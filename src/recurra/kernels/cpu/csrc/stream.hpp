// A layer that takes one step at a time: the way forward with one step, its weights packed once.
#pragma once

#include "forward.hpp"
#include "isa.hpp"

namespace recurra::RECURRA_ISA {

template <class T> class Stream final : public Stepping {
 public:
  Stream(const Layer& layer, const CellFunctions& functions)
      : layer_(layer),
        size_(layer.batch * layer.hidden),
        output_bytes_(layer.batch * layer.width(0) * sizeof(T)),
        states_(2 * layer.plan->states * size_),
        forward_(layer_, functions, true) {
    const int states = layer.plan->states;
    layer_.steps = 1;
    layer_.final.count = layer_.states.count = states;
    // A step on nothing packs the weights, which the caller may change afterwards.
    const List<T> nothing(layer.batch * layer.input_size);
    List<T> output(size_);
    step(nothing.data(), output.data());
    for (int s = 0; s < states; ++s)
      std::memcpy(buffer(s, turn_), layer.initial[s], layer.batch * layer.width(s) * sizeof(T));
  }

  void step(const void* input, void* output) override {
    layer_.input = {const_cast<void*>(input), 0, layer_.input_size};
    for (int s = 0; s < layer_.plan->states; ++s) {
      layer_.initial[s] = buffer(s, turn_);
      layer_.final[s] = buffer(s, 1 - turn_);
      layer_.states[s] = {layer_.final[s], 0, layer_.width(s)};
    }
    // Once one thread has taken over it has all the weights, which cannot be parted again.
    if (!forward_.run(allowed_threads(layer_.threads))) forward_.run(layer_.threads = 1);
    turn_ = 1 - turn_;
    std::memcpy(output, buffer(0, turn_), output_bytes_);
  }

  void* state(int s) override { return buffer(s, turn_); }

 private:
  T* buffer(int s, int turn) { return states_.data() + (2 * s + turn) * size_; }

  Layer layer_;
  const std::ptrdiff_t size_;  // of the widest state
  const std::size_t output_bytes_;
  List<T> states_;
  Forward<T> forward_;
  int turn_ = 0;
};

}  // namespace recurra::RECURRA_ISA
