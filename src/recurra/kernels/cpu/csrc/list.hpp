// An array that grows, in place of std::vector; few.hpp says why.
#pragma once

#include "sizes.hpp"

namespace recurra::RECURRA_ISA {

template <class T> class List {
 public:
  List() = default;
  explicit List(std::size_t size) { resize(size); }
  List(const List&) = delete;
  List(List&& other) noexcept { take(other); }
  List& operator=(List&& other) noexcept {
    if (this == &other) return *this;
    delete[] data_;
    take(other);
    return *this;
  }
  ~List() { delete[] data_; }

  // Room for so many, so that to add them cannot fail.
  void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    T* data = new T[capacity]{};
    for (std::size_t i = 0; i < size_; ++i) data[i] = static_cast<T&&>(data_[i]);
    delete[] data_;
    data_ = data;
    capacity_ = capacity;
  }
  void resize(std::size_t size) {
    reserve(size);
    // Those beyond the end are always as if made anew.
    for (std::size_t i = size; i < size_; ++i) data_[i] = T{};
    size_ = size;
  }
  void push_back(T value) {
    if (size_ == capacity_) reserve(max<std::size_t>(4, 2 * capacity_));
    data_[size_++] = static_cast<T&&>(value);
  }
  void clear() { resize(0); }

  RECURRA_INLINE T& operator[](std::size_t i) { return data_[i]; }
  RECURRA_INLINE const T& operator[](std::size_t i) const { return data_[i]; }
  RECURRA_INLINE T& back() { return data_[size_ - 1]; }
  RECURRA_INLINE T* data() { return data_; }
  RECURRA_INLINE const T* data() const { return data_; }
  RECURRA_INLINE T* begin() { return data_; }
  RECURRA_INLINE T* end() { return data_ + size_; }
  RECURRA_INLINE const T* begin() const { return data_; }
  RECURRA_INLINE const T* end() const { return data_ + size_; }
  RECURRA_INLINE std::size_t size() const { return size_; }
  RECURRA_INLINE bool empty() const { return size_ == 0; }

 private:
  void take(List& other) {
    data_ = other.data_;
    size_ = other.size_;
    capacity_ = other.capacity_;
    other.data_ = nullptr;
    other.size_ = other.capacity_ = 0;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace recurra::RECURRA_ISA
