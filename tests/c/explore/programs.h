#ifndef MQT_PROGRAMS_H
#define MQT_PROGRAMS_H

#include "scheduler.h"

extern const struct program programs[];
extern const unsigned program_count;

#endif
